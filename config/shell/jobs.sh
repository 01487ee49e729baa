# Sends our commands to jobsctl and everything else (`jobs`, `jobs -l`, `jobs %1`) to the shell's own `jobs`.
jobs() {
    case "${1-}" in
        @COMMANDS@|--help|--version) JOBS_PROGRAM=jobs command @JOBSCTL@ "$@" ;;
        *) command jobs "$@" ;;
    esac
}
