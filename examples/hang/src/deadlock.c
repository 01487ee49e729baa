/* Two threads take two locks in opposite order, and wait for each other for ever. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER, journal = PTHREAD_MUTEX_INITIALIZER;

static void *audit(void *unused)
{
    pthread_mutex_lock(&journal);
    sleep(1);
    pthread_mutex_lock(&accounts);
    return unused;
}

int main(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, audit, NULL);
    pthread_mutex_lock(&accounts);
    sleep(1);
    pthread_mutex_lock(&journal);
    puts("not reached");
    return 0;
}
