/* What the kernel can do: posix_spawn and wait, with so many processes in flight.
 *
 *     spawn_loop COUNT IN_FLIGHT PROGRAM          stdout of the processes is /dev/null
 *     spawn_loop COUNT IN_FLIGHT PROGRAM DIR      each gets a directory DIR/n with a file `stdout`
 *
 * Prints the processes per second. Any failure ends it with a message and exit code 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what, int error)
{
    fprintf(stderr, "spawn_loop: %s: %s\n", what, strerror(error));
    exit(1);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int open_stdout(const char *root, long number)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%ld", root, number) > (int)sizeof path - 8)
        fail(root, ENAMETOOLONG);
    if (mkdir(path, 0700) != 0)
        fail(path, errno);
    strcat(path, "/stdout");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        fail(path, errno);
    return fd;
}

static void start(char *program, int output)
{
    static char *const no_environment[] = {NULL};
    char *const arguments[] = {program, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    int error = posix_spawn(&pid, program, &actions, NULL, arguments, no_environment);
    if (error != 0)
        fail(program, error);
    posix_spawn_file_actions_destroy(&actions);
}

static void await_one(void)
{
    int status;
    if (wait(&status) < 0)
        fail("wait", errno);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail("a process did not succeed", ECHILD);
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: spawn_loop COUNT IN_FLIGHT PROGRAM [DIR]\n");
        return 2;
    }
    long count = atol(argv[1]), in_flight = atol(argv[2]), running = 0;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null < 0)
        fail("/dev/null", errno);

    double begin = now_s();
    for (long number = 0; number < count; number++) {
        if (running == in_flight) {
            await_one();
            running--;
        }
        int output = argc == 5 ? open_stdout(argv[4], number) : null;
        start(argv[3], output);
        if (output != null)
            close(output);
        running++;
    }
    while (running-- > 0)
        await_one();
    printf("%.3f\n", (double)count / (now_s() - begin));
    return 0;
}
