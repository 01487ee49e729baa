# Sends our commands to jobsctl and everything else (`jobs`, `jobs -l`, `jobs %1`) to the shell's own `jobs`.
jobs() {
    case "${1-}" in
        @COMMANDS@|--help|--version) JOBS_PROGRAM=jobs command @JOBSCTL@ "$@" ;;
        *) builtin jobs "$@" ;;
    esac
}

_jobsctl_complete() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        [ "$kind" = plain ] && COMPREPLY+=("$value")
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _JOBSCTL_COMPLETE=bash_complete command @JOBSCTL@ 2>/dev/null)
}
complete -o default -F _jobsctl_complete jobs jobsctl
