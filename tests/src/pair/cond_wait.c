/*
 * Preloaded into a stock QEMU 7.2 that runs COLO under TCG.
 *
 * In a checkpoint that QEMU waits, in the thread of the migration, on a condition together with its global lock, which
 * that thread does not hold at that moment. POSIX leaves the outcome open; glibc releases a lock that is not held, and
 * the VM hangs or aborts at its first checkpoint. Under KVM nothing waits there.
 *
 * Here a thread that waits with a mutex it does not own takes it for a millisecond of waiting and gives it back. The
 * caller takes that for a spurious wake-up and looks again.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WAIT_NS 1000000L
#define SECOND_NS 1000000000L

typedef int wait_fn(pthread_cond_t *, pthread_mutex_t *);

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    static wait_fn *libc_wait;
    struct timespec until;
    int outcome;

    if (!libc_wait)
        libc_wait = (wait_fn *)dlvsym(RTLD_NEXT, "pthread_cond_wait", "GLIBC_2.3.2");
    if (!libc_wait)
        abort();
    if (mutex->__data.__owner == gettid())
        return libc_wait(condition, mutex);

    outcome = pthread_mutex_lock(mutex);
    if (outcome)
        return outcome;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NS;
    if (until.tv_nsec >= SECOND_NS) {
        until.tv_nsec -= SECOND_NS;
        until.tv_sec++;
    }
    pthread_cond_timedwait(condition, mutex, &until);
    pthread_mutex_unlock(mutex);
    return 0;
}
