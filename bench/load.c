// A load of POST requests over HTTP/1.1, in one thread. With a rate, requests are due at random times
// (exponential gaps, a fixed seed) whether responses come or not, and the latency counts from the
// time at which the request was due: an open loop. With a rate of 0, each connection sends its next
// request when it has its response: a closed loop.
//
//   load PORT PATH CONNECTIONS RATE SECONDS KEYS BODY       (%d in BODY is the number of a key)
//
// Prints one line: responses per second, p50, p99 and p99.9 in us, responses other than 200, and
// requests that had no response at the end. The first tenth of the time is not counted.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd;
    double due; // us; when its request was due
    int length;
    char bytes[4096];
} Connection;

static Connection **idle;
static int idle_count, keys, port;
static const char *path, *body;
static unsigned long long state = 1;

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static double uniform(void) {
    state = state * 6364136223846793005ULL + 1;
    return ((state >> 33) + 1) / 2147483649.0;
}

static void fail(const char *why) {
    perror(why);
    exit(1);
}

static void request(Connection *connection, double due) {
    char text[512], whole[1024];
    int length = snprintf(text, sizeof text, body, (int)(uniform() * keys));
    int total = snprintf(whole, sizeof whole,
        "POST %s HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", path, length, text);
    connection->due = due;
    if (write(connection->fd, whole, total) != total) fail("write");
}

// True once a whole response has arrived. Its status is the number after the first space.
static int has_response(Connection *connection, int *status) {
    ssize_t got = read(connection->fd, connection->bytes + connection->length, sizeof connection->bytes - 1 - connection->length);
    if (got <= 0) fail("read");
    connection->length += got;
    connection->bytes[connection->length] = 0;
    char *end = strstr(connection->bytes, "\r\n\r\n"), *field = strcasestr(connection->bytes, "content-length:");
    if (!end || !field || field > end) return 0;
    if (connection->length < end + 4 - connection->bytes + atoi(field + 15)) return 0;
    *status = atoi(connection->bytes + 9);
    connection->length = 0;
    return 1;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int count, char **words) {
    if (count != 8) {
        fprintf(stderr, "usage: load PORT PATH CONNECTIONS RATE SECONDS KEYS BODY\n");
        return 2;
    }
    port = atoi(words[1]);
    path = words[2];
    int connections = atoi(words[3]);
    double rate = atof(words[4]), seconds = atof(words[5]);
    keys = atoi(words[6]);
    body = words[7];
    prctl(PR_SET_TIMERSLACK, 1);
    int epoll = epoll_create1(0);
    idle = calloc(connections, sizeof *idle);
    for (int i = 0; i < connections; i++) {
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
        there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        Connection *connection = calloc(1, sizeof *connection);
        int on = 1;
        connection->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(connection->fd, (struct sockaddr *)&there, sizeof there)) fail("connect");
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
        idle[idle_count++] = connection;
    }
    size_t room = 1 << 16, samples = 0;
    float *latencies = malloc(room * sizeof *latencies);
    double start = now_us(), counted_from = start + seconds * 1e5, end = start + seconds * 1e6, next = start;
    long bad = 0, open = 0;
    struct epoll_event events[512];
    for (double now = start; now < end; now = now_us()) {
        while (idle_count && (rate == 0 || next <= now)) {
            request(idle[--idle_count], rate == 0 ? now : next);
            open++;
            if (rate > 0) next -= log(uniform()) * 1e6 / rate;
        }
        double wait = rate > 0 && idle_count ? next - now_us() : end - now_us();
        if (wait < 0) wait = 0;
        struct timespec timeout = {wait / 1e6, fmod(wait, 1e6) * 1e3};
        int ready = epoll_pwait2(epoll, events, 512, &timeout, NULL);
        for (int i = 0; i < ready; i++) {
            Connection *connection = events[i].data.ptr;
            int status;
            if (!has_response(connection, &status)) continue;
            idle[idle_count++] = connection;
            open--;
            bad += status != 200;
            double at = now_us();
            if (at < counted_from) continue;
            if (samples == room) latencies = realloc(latencies, (room *= 2) * sizeof *latencies);
            latencies[samples++] = at - connection->due;
        }
    }
    if (!samples) {
        fprintf(stderr, "no response\n");
        return 1;
    }
    // Requests that are due and had no connection count as unanswered.
    if (rate > 0) open += (long)fmax(0, (end - next) * rate / 1e6);
    qsort(latencies, samples, sizeof *latencies, ascending);
    printf("%.0f %.0f %.0f %.0f %ld %ld\n", samples / (seconds * 0.9), latencies[samples / 2],
        latencies[samples * 99 / 100], latencies[samples * 999 / 1000], bad, open);
    return 0;
}
