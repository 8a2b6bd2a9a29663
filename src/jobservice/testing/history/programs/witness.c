/* A job that tells what it sees, in lines of JSON at the end of FOLDER/witness.jsonl, each synced.

   witness FOLDER [sleep_ms=N] [exit=N] [fail_until=N] [lines=N] [keys=A,B] [child=1]

   It holds a lock of its own job on one byte of FOLDER/locks, which its whole tree inherits: an attempt
   that does not get it has found a process of another one alive, and says so. See witness.py beside it,
   which does the same. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BEAT_MS = 50, LONGEST = 1024 };

static int journal;
static char about[512];

static int64_t now(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
}

static void note(const char *what, const char *rest, int sync) {
    char line[LONGEST];
    int length = snprintf(line, sizeof line,
        "{\"by\":\"witness\",\"what\":\"%s\",\"at\":%lld,\"wall\":%lld,\"pid\":%d,%s%s}\n", what,
        (long long)now(CLOCK_BOOTTIME), (long long)now(CLOCK_REALTIME), (int)getpid(), about, rest);
    if (length < 0 || length >= (int)sizeof line || write(journal, line, length) != length)
        exit(99);
    if (sync && fdatasync(journal))
        exit(99);
}

static void rest_for(long ms) {
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&span, &span) && errno == EINTR)
        ;
}

static void live(long ms) {
    while (ms > BEAT_MS) {
        rest_for(BEAT_MS);
        note("beat", "", 0);
        ms -= BEAT_MS;
    }
    if (ms > 0)
        rest_for(ms);
}

static int alone(const char *folder, const char *tenant, const char *job) {
    char path[LONGEST];
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const char *part[] = {tenant, "/", job}, **each = part; each < part + 3; each++)
        for (const char *at = *each; *at; at++)
            hash = (hash ^ (unsigned char)*at) * UINT64_C(1099511628211);
    snprintf(path, sizeof path, "%s/locks", folder);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = hash >> 2, .l_len = 1};
    if (fd < 0)
        exit(99);
    return fcntl(fd, F_OFD_SETLK, &byte) == 0; /* never closed: the tree keeps it */
}

int main(int count, char **words) {
    long sleep_ms = 0, code = 0, fail_until = 0, lines = 0, child = 0;
    const char *keys = "", *key = getenv("JOBSERVICE_ATTEMPT_KEY");
    char tenant[128], job[128], boot[64] = "", path[LONGEST], rest[256];
    int attempt, epoch;
    if (count < 2 || !key || sscanf(key, "%127[^/]/%127[^/]/%d/%d", tenant, job, &attempt, &epoch) != 4) {
        fputs("usage: witness FOLDER [name=value ...], as a job\n", stderr);
        return 98;
    }
    for (int n = 2; n < count; n++) {
        char *value = strchr(words[n], '=');
        if (!value)
            return 98;
        *value++ = 0;
        if (!strcmp(words[n], "sleep_ms")) sleep_ms = atol(value);
        else if (!strcmp(words[n], "exit")) code = atol(value);
        else if (!strcmp(words[n], "fail_until")) fail_until = atol(value);
        else if (!strcmp(words[n], "lines")) lines = atol(value);
        else if (!strcmp(words[n], "keys")) keys = value;
        else if (!strcmp(words[n], "child")) child = atol(value);
        else return 98;
    }
    FILE *id = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!id || fscanf(id, "%63s", boot) != 1)
        return 99;
    fclose(id);
    snprintf(path, sizeof path, "%s/witness.jsonl", words[1]);
    journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0)
        return 99;
    snprintf(about, sizeof about,
        "\"boot\":\"%s\",\"tenant\":\"%s\",\"job_id\":\"%s\",\"attempt\":%d,\"epoch\":%d", boot, tenant, job,
        attempt, epoch);
    snprintf(rest, sizeof rest, ",\"alone\":%s,\"keys\":\"%s\",\"lines\":%ld",
        alone(words[1], tenant, job) ? "true" : "false", keys, lines);
    note("start", rest, 1);
    if (child && fork() == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        live(sleep_ms + 20000);
        _exit(0);
    }
    for (long n = 0; n < lines; n++)
        printf("%s %ld\n", key, n);
    fflush(stdout);
    live(sleep_ms);
    if (attempt <= fail_until)
        code = 3;
    snprintf(rest, sizeof rest, ",\"code\":%ld", code);
    note("end", rest, 1);
    return code;
}
