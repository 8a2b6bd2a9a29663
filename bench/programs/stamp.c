/* The program that jobs run: it writes 16 bytes, the instant of its start, and exits.
 *
 *     stamp              writes the nanoseconds since 1970 to stdout, as 16 hexadecimal digits
 *     stamp FILE SENT    appends the line "SENT STARTED" to FILE, for rows that ask when it began
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;

    char text[80];
    int length;
    int fd = STDOUT_FILENO;
    if (argc == 3) {
        fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        length = snprintf(text, sizeof text, "%.40s %llu\n", argv[2], (unsigned long long)ns);
    } else {
        length = snprintf(text, sizeof text, "%016llx", (unsigned long long)ns);
    }
    return write(fd, text, (size_t)length) == length ? 0 : 1;
}
