/* touch PROCESSES THREADS MIB [huge]
 *
 * Every thread of every process maps MIB of memory and writes to each page of it; the pages so lie where the kernel puts
 * those of that thread. When all is touched "ready" is printed once; SIGUSR1 to the first process then ends all of them.
 * `huge`: from the pool of huge pages of the default size.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t bytes;
static int flags = MAP_PRIVATE | MAP_ANONYMOUS;
static pthread_barrier_t touched;

static void *touch(void *unused)
{
    (void)unused;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        _exit(3);
    }
    for (size_t at = 0; at < bytes; at += 4096)
        memory[at] = 1;
    pthread_barrier_wait(&touched);
    for (;;)
        pause();
}

static void run_threads(int threads)
{
    pthread_barrier_init(&touched, NULL, threads + 1);
    for (int number = 0; number < threads; number++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, touch, NULL) != 0)
            _exit(4);
    }
    pthread_barrier_wait(&touched);
}

int main(int count, char **words)
{
    int processes = atoi(words[1]), threads = atoi(words[2]), number;
    bytes = (size_t)atoi(words[3]) << 20;
    if (count > 4 && strcmp(words[4], "huge") == 0)
        flags |= MAP_HUGETLB;

    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGUSR1);
    sigprocmask(SIG_BLOCK, &end, NULL);

    int done[2];
    if (pipe(done) != 0)
        return 5;
    for (number = 1; number < processes; number++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_threads(threads);
            if (write(done[1], "x", 1) != 1)
                _exit(6);
            for (;;)
                pause();
        }
    run_threads(threads);
    for (number = 1; number < processes; number++) {
        char one;
        if (read(done[0], &one, 1) != 1)
            return 7;
    }
    puts("ready");
    fflush(stdout);
    sigwait(&end, &number);
    return 0;
}
