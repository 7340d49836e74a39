// A library to preload into redis-server, which makes a distance of it: each reply leaves LATE_US
// after Redis has written it. A client sees a longer round trip, and no other process takes part in
// it. Requests arrive at once, so Redis runs a command earlier than it would over a line with half
// of the delay in each direction; nobody can tell from outside.
//
// It reorders nothing, loses only what Redis wrote to a connection that it then closes, has no limit of
// bandwidth, and knows only what redis-server calls: one thread, accept4, write, writev, close and
// epoll_wait.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 65536, MAX_PIECE = 64 * 1024 };

typedef struct Reply Reply;

struct Reply {
    Reply *next; // of all connections: all replies are equally late, so it is in order of time
    long long due; // ns
    int fd, of; // the connection: its descriptor, and which of those that have had that
    size_t length, written;
    char bytes[];
};

static Reply *first, *last;
static long long delay;
static int accepted[MAX_FD], closed[MAX_FD];
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_accept4)(int, struct sockaddr *, socklen_t *, int);
static int (*real_close)(int);

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((constructor)) static void find_real(void) {
    real_write = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real_accept4 = (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
    real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    const char *late = getenv("LATE_US");
    delay = late ? atoll(late) * 1000 : 0;
    // A thread otherwise sleeps for up to 50 us more than it asked for.
    prctl(PR_SET_TIMERSLACK, 1);
}

static void forget_first(void) {
    Reply *reply = first;
    first = reply->next;
    if (!first)
        last = NULL;
    free(reply);
}

// Sends the replies that are due; those of one connection that follow each other by one call.
static void send_due(void) {
    static char piece[MAX_PIECE];
    long long now = first ? now_ns() : 0;
    while (first && first->due <= now) {
        if (first->of != closed[first->fd]) {
            forget_first();
            continue;
        }
        int fd = first->fd, of = first->of;
        size_t length = 0;
        for (Reply *reply = first; reply && reply->due <= now && reply->fd == fd && reply->of == of;
             reply = reply->next) {
            size_t left = reply->length - reply->written;
            if (length + left > MAX_PIECE && length > 0)
                break;
            left = left < MAX_PIECE ? left : MAX_PIECE;
            memcpy(piece + length, reply->bytes + reply->written, left);
            length += left;
        }
        ssize_t sent = real_write(fd, piece, length);
        if (sent < 0 && errno == EAGAIN) {
            first->due = now + 1000000;
            return;
        }
        // After another error Redis will read the end of the connection.
        size_t gone = sent < 0 ? length : (size_t)sent;
        while (first && gone > 0) {
            size_t left = first->length - first->written;
            if (left > gone) {
                first->written += gone;
                break;
            }
            gone -= left;
            forget_first();
        }
    }
}

static void append(Reply *reply, const void *bytes, size_t length) {
    memcpy(reply->bytes + reply->length, bytes, length);
    reply->length += length;
}

static Reply *new_reply(int fd, size_t room) {
    Reply *reply = calloc(1, sizeof *reply + room);
    if (!reply)
        abort();
    reply->due = now_ns() + delay;
    reply->fd = fd;
    reply->of = closed[fd];
    if (last)
        last->next = reply;
    else
        first = reply;
    last = reply;
    return reply;
}

static int is_late(int fd) {
    return delay && fd >= 0 && fd < MAX_FD && accepted[fd];
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (!is_late(fd) || length == 0)
        return real_write(fd, bytes, length);
    append(new_reply(fd, length), bytes, length);
    return length;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_late(fd))
        return syscall(SYS_writev, fd, parts, count);
    size_t length = 0;
    for (int i = 0; i < count; i++)
        length += parts[i].iov_len;
    Reply *reply = new_reply(fd, length);
    for (int i = 0; i < count; i++)
        append(reply, parts[i].iov_base, parts[i].iov_len);
    return length;
}

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags) {
    int fd = real_accept4(listener, address, length, flags);
    if (fd >= 0 && fd < MAX_FD)
        accepted[fd] = 1;
    return fd;
}

int close(int fd) {
    if (fd >= 0 && fd < MAX_FD && accepted[fd]) {
        accepted[fd] = 0;
        closed[fd]++;
    }
    return real_close(fd);
}

int epoll_wait(int epoll, struct epoll_event *events, int room, int timeout_ms) {
    long long end = timeout_ms < 0 ? -1 : now_ns() + timeout_ms * 1000000LL;
    for (;;) {
        send_due();
        long long until = first && (end < 0 || first->due < end) ? first->due : end;
        long long now = now_ns(), left = until > now ? until - now : 0;
        struct timespec wait = {left / 1000000000, left % 1000000000};
        int ready = syscall(SYS_epoll_pwait2, epoll, events, room, until < 0 ? NULL : &wait, NULL, 0);
        if (ready != 0 || (end >= 0 && now_ns() >= end)) {
            int error = errno;
            send_due();
            errno = error;
            return ready;
        }
    }
}
