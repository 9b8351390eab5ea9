/*
 * What the installed library is tried with: it is the version named on the command line, and outside any cluster it
 * listens, accepts and closes as a plain server.
 */
#include <cluster.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int failed(const char *what, int code)
{
    fprintf(stderr, "%s: %s (%s)\n", what, cl_strerror(code), cl_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    int listener, client, connection, code;

    if (argc != 2 || strcmp(argv[1], cl_version()) != 0) {
        fprintf(stderr, "the library says it is %s\n", cl_version());
        return 1;
    }
    listener = cl_listen("127.0.0.1:0", 0);
    if (listener < 0)
        return failed("cl_listen", listener);
    code = cl_getsockname(listener, (struct sockaddr *)&name, &length);
    if (code < 0)
        return failed("cl_getsockname", code);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client < 0 || connect(client, (struct sockaddr *)&name, length) != 0) {
        perror("connect");
        return 1;
    }
    connection = cl_accept(listener, NULL, NULL);
    if (connection < 0)
        return failed("cl_accept", connection);
    close(connection);
    close(client);
    code = cl_close(listener);
    if (code < 0)
        return failed("cl_close", code);
    return 0;
}
