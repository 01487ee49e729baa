# Sends our commands to jobsctl and everything else (`jobs`, `jobs -l`, `jobs %1`) to the shell's own `jobs`.
function jobs --description 'Batch jobs; without one of its commands the jobs of this shell'
    switch "$argv[1]"
        case @COMMANDS@ --help --version
            env JOBS_PROGRAM=jobs @JOBSCTL@ $argv
        case '*'
            builtin jobs $argv
    end
end

function __jobsctl_complete
    for line in (env _JOBSCTL_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) @JOBSCTL@ 2>/dev/null)
        set -l parts (string split --max 1 , -- $line)
        test "$parts[1]" = plain; and echo $parts[2]
    end
end
complete --command jobs --erase
complete --command jobs --arguments '(__jobsctl_complete)'
complete --command jobsctl --arguments '(__jobsctl_complete)'
