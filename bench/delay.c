// A TCP proxy that holds back each byte for the same time, as a long line does: DELAY_US in each
// direction, so that a round trip is longer by twice that. One thread, epoll, no copy beside the
// one through this process. At SIGTERM it prints one line: chunks forwarded, the mean and the
// longest time in us by which they were late, and the CPU time in us of a chunk.
//
//   delay LISTEN_PORT TARGET_PORT DELAY_US
//
// It loses and reorders nothing, and has no limit of bandwidth.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CHUNK = 64 * 1024 };

typedef struct Chunk Chunk;
typedef struct Side Side;

struct Chunk {
    Chunk *next;        // of the line: all chunks have the same delay, so it is in order of time
    Side *to;
    long long due;      // ns
    int length, written; // a length of 0 is the end of the stream
    char bytes[];
};

// One end of a forwarded connection.
struct Side {
    int fd, is_blocked;
    Side *other;
    Chunk *unwritten, *last; // due, and the socket has no room
};

static Chunk *line, *line_end;
static long long delay, forwarded, late_sum, late_max;
static volatile sig_atomic_t stopped;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void on_stop(int number) { stopped = number; }

static void fail(const char *why) {
    perror(why);
    exit(1);
}

static void watch(int epoll, Side *side, int is_new) {
    struct epoll_event event = {.events = EPOLLIN | (side->is_blocked ? EPOLLOUT : 0), .data.ptr = side};
    // An end that has closed its direction is watched no longer.
    if (epoll_ctl(epoll, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, side->fd, &event) && errno != ENOENT) fail("epoll_ctl");
}

static Side *side_of(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    Side *side = calloc(1, sizeof *side);
    side->fd = fd;
    return side;
}

static void open_pair(int epoll, int listener, struct sockaddr_in *target) {
    int client = accept(listener, NULL, NULL);
    if (client < 0) return;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)target, sizeof *target)) {
        close(client);
        close(server);
        return;
    }
    Side *a = side_of(client), *b = side_of(server);
    a->other = b;
    b->other = a;
    watch(epoll, a, 1);
    watch(epoll, b, 1);
}

// Reads what is there, and puts it on the line.
static void take(int epoll, Side *from) {
    static char buffer[MAX_CHUNK];
    ssize_t length = read(from->fd, buffer, sizeof buffer);
    if (length < 0) {
        length = 0;
    }
    Chunk *chunk = malloc(sizeof *chunk + length);
    *chunk = (Chunk){.to = from->other, .due = now_ns() + delay, .length = length};
    memcpy(chunk->bytes, buffer, length);
    if (line) line_end->next = chunk; else line = chunk;
    line_end = chunk;
    if (length == 0) epoll_ctl(epoll, EPOLL_CTL_DEL, from->fd, NULL);
}

static void flush(int epoll, Side *to) {
    while (to->unwritten) {
        Chunk *chunk = to->unwritten;
        if (chunk->length == 0) {
            shutdown(to->fd, SHUT_WR);
        } else {
            ssize_t written = write(to->fd, chunk->bytes + chunk->written, chunk->length - chunk->written);
            if (written > 0) chunk->written += written;
            if (written > 0 && chunk->written < chunk->length) continue;
            if (written < 0 && chunk->written < chunk->length) {
                // An end that is gone takes nothing more: EPOLLOUT never comes.
                if (!to->is_blocked) {
                    to->is_blocked = 1;
                    watch(epoll, to, 0);
                }
                return;
            }
        }
        to->unwritten = chunk->next;
        free(chunk);
    }
    if (to->is_blocked) {
        to->is_blocked = 0;
        watch(epoll, to, 0);
    }
}

// Forwards all chunks that are due.
static void deliver(int epoll) {
    for (long long now = now_ns(); line && line->due <= now; now = now_ns()) {
        Chunk *chunk = line;
        line = chunk->next;
        chunk->next = NULL;
        long long late = now - chunk->due;
        forwarded++;
        late_sum += late;
        if (late > late_max) late_max = late;
        Side *to = chunk->to;
        if (to->unwritten) to->last->next = chunk; else to->unwritten = chunk;
        to->last = chunk;
        if (!to->is_blocked) flush(epoll, to);
    }
}

int main(int count, char **words) {
    if (count != 4) {
        fprintf(stderr, "usage: delay LISTEN_PORT TARGET_PORT DELAY_US\n");
        return 2;
    }
    delay = atoll(words[3]) * 1000;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_stop);
    // By default, the kernel may add 50 us to each wait.
    prctl(PR_SET_TIMERSLACK, 1);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    here.sin_addr.s_addr = target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024)) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    while (!stopped) {
        long long wait = line ? line->due - now_ns() : 1000000000;
        if (wait < 0) wait = 0;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        int ready = epoll_pwait2(epoll, events, 256, &timeout, NULL);
        for (int i = 0; i < ready; i++) {
            Side *side = events[i].data.ptr;
            if (!side) {
                open_pair(epoll, listener, &target);
                continue;
            }
            if (events[i].events & EPOLLOUT) flush(epoll, side);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take(epoll, side);
        }
        deliver(epoll);
    }
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
    double each = forwarded ? forwarded : 1;
    printf("%lld %.1f %.1f %.2f\n", forwarded, late_sum / each / 1e3, late_max / 1e3, cpu / each);
    return 0;
}
