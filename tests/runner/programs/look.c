/* What a process was started with: descriptors, signals, session, umask, group; on stdout. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

int main(void) {
    char place[4096];
    sigset_t blocked;
    struct rlimit files;
    printf("fds");
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
    printf("\nblocked");
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int number = 1; number < 65; number++)
        if (sigismember(&blocked, number) == 1) printf(" %d", number);
    printf("\nnot-default");
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            printf(" %d", number);
    }
    getrlimit(RLIMIT_NOFILE, &files);
    printf("\nleads-session %d\nleads-group %d\nterminal %d\numask %03o\ncwd %s\nfiles %llu\n",
           getsid(0) == getpid(), getpgrp() == getpid(), open("/dev/tty", O_RDWR) >= 0, umask(0),
           getcwd(place, sizeof place), (unsigned long long)files.rlim_cur);
    for (char **each = environ; *each; each++) printf("env %s\n", *each);
    return 0;
}
