/* A tree that does not want to end: `daemons FILE DEPTH exit|stay`.
 *
 * The process ignores every signal that can be ignored, starts two more of its kind by a double fork,
 * each in a session of its own and with an empty environment, until DEPTH is 0, and then sleeps for
 * ever; the first one exits instead if told so. Each writes its pid to FILE once it stands.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void start_daemon(char *program, char *file, int depth) {
    char text[16];
    char *argv[] = {program, file, text, "stay", NULL};
    char *envp[] = {NULL};
    snprintf(text, sizeof text, "%d", depth);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0) {
            for (int fd = 0; fd < 64; fd++) close(fd);
            execve(program, argv, envp);
            _exit(1);
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int depth = atoi(argv[2]);
    for (int number = 1; number < 32; number++)
        if (number != SIGCHLD) signal(number, SIG_IGN);
    char line[32];
    int length = snprintf(line, sizeof line, "%d\n", getpid());
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (write(fd, line, length) != length) return 3;
    close(fd);
    for (int count = 0; depth > 0 && count < 2; count++) start_daemon(argv[0], argv[1], depth - 1);
    if (strcmp(argv[3], "exit") == 0) return 0;
    for (;;) pause();
}
