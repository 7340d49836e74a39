/* A clock for redis-server that tests can set: preloaded, it answers gettimeofday and
 * clock_gettime(CLOCK_REALTIME) from a mapped file of two 64-bit numbers. Mode 0: the machine's
 * time plus so many microseconds. Mode 1: that many microseconds since 1970, standing still. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shown;

static int64_t now_us(void) {
    struct timespec machine;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &machine);
    if (!shown) {
        const char *path = getenv("CLOCK_FILE");
        int file = path ? open(path, O_RDONLY) : -1;
        void *map = file < 0 ? MAP_FAILED : mmap(0, 16, PROT_READ, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) abort();
        shown = map;
    }
    int64_t machine_us = (int64_t)machine.tv_sec * 1000000 + machine.tv_nsec / 1000;
    return shown[0] == 1 ? shown[1] : machine_us + shown[1];
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    int64_t us = now_us();
    out->tv_sec = us / 1000000;
    out->tv_usec = us % 1000000;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    if (clock != CLOCK_REALTIME) return (int)syscall(SYS_clock_gettime, clock, out);
    int64_t us = now_us();
    out->tv_sec = us / 1000000;
    out->tv_nsec = us % 1000000 * 1000;
    return 0;
}
