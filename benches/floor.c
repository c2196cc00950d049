/* A minimal client of the agent: connects, sends one GET request, reads the response and prints the token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const char request[] = "GET /v1/token/work HTTP/1.1\r\nHost: authctl\r\n\r\n";
    static char reply[65536];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = 0, end = 0;
    int fd;

    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, argv[1]);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return 1;
    if (write(fd, request, sizeof request - 1) != (ssize_t)(sizeof request - 1))
        return 1;
    while (end == 0 || length < end) {
        ssize_t more = read(fd, reply + length, sizeof reply - 1 - length);
        char *body, *line;

        if (more <= 0)
            return 1;
        length += (size_t)more;
        reply[length] = '\0';
        body = strstr(reply, "\r\n\r\n");
        if (end == 0 && body != NULL) {
            for (line = reply; line < body; line = strstr(line, "\r\n") + 2)
                if (strncasecmp(line, "content-length:", 15) == 0)
                    end = (size_t)(body + 4 - reply) + strtoul(line + 15, NULL, 10);
            if (end == 0 || end >= sizeof reply)
                return 1;
        }
    }
    if (strncmp(reply, "HTTP/1.1 200", 12) == 0) {
        char *token = strstr(reply, "\"access_token\":\"");
        char *quote = token ? strchr(token + 16, '"') : NULL;

        if (quote != NULL) {
            *quote = '\n';
            return write(1, token + 16, (size_t)(quote + 1 - (token + 16))) > 0 ? 0 : 1;
        }
    }
    return 1;
}
