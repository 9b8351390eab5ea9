/* -- Addresses ----------------------------------------------------------------------------------------------------- */

struct cl__address {
    int family; /* AF_UNIX; AF_INET, AF_INET6; AF_UNSPEC: all addresses; -1: the descriptor `inherited` */
    int datagram, port, inherited;
    socklen_t length; /* of `name`; 0 for AF_UNSPEC, and for a path too long for it */
    struct sockaddr_storage name;
    char text[4097]; /* as it travels: host numeric, path absolute */
};
#define CL__FORMS \
    "write host:port, :port, [v6]:port, unix:/path, unix:@name, fd:N, or udp: before one of the first three"
#define CL__BAD(...) return cl__fail(-EINVAL, __VA_ARGS__)

/* The primary ends a worker that sends text which is not UTF-8. */
CL__FN int cl__is_utf8(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at != 0;) {
        int more = *at < 0x80 ? 0 : *at < 0xc2 ? -1 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : -1;
        int low = *at == 0xe0 ? 0xa0 : *at == 0xf0 ? 0x90 : 0x80, high = *at == 0xed ? 0x9f : *at == 0xf4 ? 0x8f : 0xbf;
        if (more < 0) return 0;
        for (at++; more > 0; more--, at++, low = 0x80, high = 0xbf)
            if (*at < low || *at > high) return 0;
    }
    return 1;
}

CL__FN int cl__parse_unix(struct cl__address *to, const char *text) {
    const char *path = text + 5;
    size_t length = strlen(path);
    struct sockaddr_un un;
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    to->family = AF_UNIX;
    to->port = -1;
    if (length == 0) CL__BAD("\"%s\" has no path; write unix:/path", text);
    if (path[0] == '@' && length == 1) CL__BAD("\"%s\" has no name; write unix:@name", text);
    if (path[0] == '@' && length > sizeof un.sun_path)
        CL__BAD("the abstract name in \"%s\" has %d bytes; at most 107 are possible", text, (int)length - 1);
    memcpy(to->text, "unix:", 5);
    if (path[0] != '/' && path[0] != '@') {
        if (getcwd(to->text + 5, sizeof to->text - 6) == NULL) return cl__os("the current directory");
        if (to->text[6] != '\0') strcat(to->text, "/");
    }
    if (strlen(to->text) + length >= sizeof to->text || !cl__is_utf8(to->text))
        CL__BAD("the path of the current directory is too long or not UTF-8; give an absolute path");
    strcat(to->text, path);
    if (path[0] == '@') {
        memcpy(un.sun_path + 1, path + 1, length - 1);
        to->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    } else if (length < sizeof un.sun_path) {
        memcpy(un.sun_path, path, length);
        to->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    }
    memcpy(&to->name, &un, sizeof un);
    return 0;
}

/* Fills in family and name. Waits only for a host name. */
CL__FN int cl__look_up(struct cl__address *to, const char *host, int family) {
    struct cl__addrinfo hints, *found = NULL;
    char port[16];
    memset(&hints, 0, sizeof hints);
    hints.family = family;
    hints.type = SOCK_STREAM;
    hints.flags = CL__AI_NUMERICSERV | (family != AF_UNSPEC ? CL__AI_NUMERICHOST : 0);
    snprintf(port, sizeof port, "%d", to->port);
    int problem = cl__os_getaddrinfo(host, port, &hints, &found);
    if (problem != 0) CL__BAD("\"%s\" cannot be resolved: %s", host, cl__os_gai_strerror(problem));
    to->family = found->family;
    to->length = found->length;
    memcpy(&to->name, found->address, found->length);
    cl__os_freeaddrinfo(found);
    return 0;
}

CL__FN int cl__parse_inet(struct cl__address *to, const char *text) {
    const char *rest = strncmp(text, "udp:", 4) == 0 ? text + 4 : text, *colon = strrchr(rest, ':'), *digit;
    char buffer[260], ip[INET6_ADDRSTRLEN], number[16] = "", *host = buffer, *scope = NULL;
    int code;
    to->datagram = rest != text;
    if (colon == NULL) CL__BAD("\"%s\" has no port; " CL__FORMS, text);
    for (digit = colon + 1; *digit >= '0' && *digit <= '9'; digit++)
        if (to->port <= 65535) to->port = to->port * 10 + (*digit - '0');
    if (digit == colon + 1 || *digit != '\0') CL__BAD("\"%s\" has no number for a port; " CL__FORMS, text);
    if (to->port > 65535) CL__BAD("the port in \"%s\" is not in the range 0 to 65535", text);
    size_t length = (size_t)(colon - rest);
    if (length >= sizeof buffer) CL__BAD("\"%s\" is no host name; " CL__FORMS, text);
    memcpy(host, rest, length);
    host[length] = '\0';
    if (length == 0 || strcmp(host, "*") == 0) {
        snprintf(to->text, sizeof to->text, "%s:%d", to->datagram ? "udp:" : "", to->port);
        return 0;
    }
    if (host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        host++;
        if ((scope = strchr(host, '%')) != NULL) *scope++ = '\0';
        if (cl__look_up(to, host, AF_INET6) < 0)
            CL__BAD("what stands in brackets in \"%s\" is no IPv6 address", text);
    } else {
        if (strchr(host, ':')) CL__BAD("an IPv6 address stands in brackets: [%s]:%d", host, to->port);
        if (strcspn(host, "[]/@ \t\n\r\f\v") != length) CL__BAD("\"%s\" is no host name; " CL__FORMS, host);
        if ((code = cl__look_up(to, host, AF_UNSPEC)) < 0) return code;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to->name;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&to->name;
    int is_v6 = to->family == AF_INET6;
    if (scope != NULL && (v6->sin6_scope_id = if_nametoindex(scope)) == 0)
        v6->sin6_scope_id = (unsigned)strtoul(scope, NULL, 10);
    if (scope != NULL && v6->sin6_scope_id == 0)
        return cl__fail(-ENODEV, "\"%s\" in \"%s\" is no network interface", scope, text);
    inet_ntop(to->family, is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr, ip, sizeof ip);
    if (is_v6 && v6->sin6_scope_id != 0 && scope == NULL) {
        snprintf(number, sizeof number, "%u", (unsigned)v6->sin6_scope_id);
        scope = number;
    }
    snprintf(to->text, sizeof to->text, "%s%s%s%s%s%s:%d", to->datagram ? "udp:" : "", is_v6 ? "[" : "", ip,
             scope != NULL ? "%" : "", scope != NULL ? scope : "", is_v6 ? "]" : "", to->port);
    return 0;
}

CL__FN int cl__parse(struct cl__address *to, const char *text) {
    memset(to, 0, sizeof *to);
    if (strlen(text) >= sizeof to->text) CL__BAD("the address is longer than the 4096 bytes that are possible");
    if (!cl__is_utf8(text)) CL__BAD("the address is not UTF-8");
    if (strncmp(text, "unix:", 5) == 0) return cl__parse_unix(to, text);
    if (strncmp(text, "fd:", 3) != 0) return cl__parse_inet(to, text);
    size_t digits = strspn(text + 3, "0123456789");
    if (digits == 0 || digits > 10 || text[3 + digits] != '\0' || strtoll(text + 3, NULL, 10) > 0x7fffffff)
        CL__BAD("\"%s\" names no descriptor; write fd: and a number from 0 up", text);
    to->family = to->port = -1;
    to->inherited = atoi(text + 3);
    snprintf(to->text, sizeof to->text, "fd:%d", to->inherited);
    return 0;
}
