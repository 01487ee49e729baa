# Sends our commands to jobsctl and everything else (`jobs`, `jobs -l`, `jobs %1`) to the shell's own `jobs`.
jobs() {
    case "${1-}" in
        (@COMMANDS@|--help|--version) JOBS_PROGRAM=jobs command @JOBSCTL@ "$@" ;;
        (*) builtin jobs "$@" ;;
    esac
}

_jobsctl_complete() {
    local kind value help
    local -a described
    while IFS= read -r kind && IFS= read -r value && IFS= read -r help; do
        [[ $kind == plain ]] || continue
        [[ $help == _ ]] && help=
        described+=("$value${help:+:$help}")
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) _JOBSCTL_COMPLETE=zsh_complete command @JOBSCTL@ 2>/dev/null)
    if (( $#described )); then
        _describe -V jobs described
    else
        _files
    fi
}
if (( $+functions[compdef] )); then
    compdef _jobsctl_complete jobs jobsctl
fi
