/* Clients that are made of single packets, so that a test has the moment of each in its hand: the other end of a tun(4) device. */
#ifndef TUN_H
#define TUN_H

#include "net.h"
#include <linux/if_tun.h>
#include <netinet/ip.h>

enum { TUN_FIN = 1, TUN_SYN = 2, TUN_RST = 4, TUN_PSH = 8, TUN_ACK = 16, TUN_PACKET = sizeof(struct iphdr) + sizeof(struct tcphdr) };

/* A packet as it is on its way, without options. */
typedef struct {
    int flags, client_port; /* of TUN_*; the clients are told apart by their ports */
    unsigned seq, ack;
    size_t length; /* of what it carries */
} tun_packet_t;

static inline void tun_setting(int any, const char *device, unsigned long request, const char *address) {
    struct ifreq wanted;
    struct sockaddr_in name = address4(0);
    ZERO(wanted);
    strcpy(wanted.ifr_name, device);
    if (address != NULL) {
        name.sin_addr.s_addr = inet_addr(address);
        memcpy(&wanted.ifr_addr, &name, sizeof name);
    } else {
        wanted.ifr_flags = IFF_UP | IFF_RUNNING;
    }
    SYS(ioctl(any, request, &wanted));
}

/* A network of this process's own with one device, 10.11.0.1, behind which all clients are 10.11.0.2. */
static inline int tun_open(void) {
    struct ifreq wanted;
    if (unshare(CLONE_NEWNET) != 0) check_skip("a network of its own is not allowed here");
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) check_skip("/dev/net/tun is not to be had here");
    ZERO(wanted);
    strcpy(wanted.ifr_name, "clients");
    wanted.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(fd, TUNSETIFF, &wanted) != 0) check_skip("a tun(4) device is not allowed here");
    int any = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    tun_setting(any, "lo", SIOCSIFFLAGS, NULL);
    tun_setting(any, "clients", SIOCSIFADDR, "10.11.0.1");
    tun_setting(any, "clients", SIOCSIFNETMASK, "255.255.255.0");
    tun_setting(any, "clients", SIOCSIFFLAGS, NULL);
    close(any);
    return fd;
}

/* RFC 1071. */
static inline unsigned tun_sum(const void *bytes, size_t length, unsigned sum) {
    const unsigned char *at = (const unsigned char *)bytes;
    for (size_t i = 0; i + 1 < length; i += 2) sum += (unsigned)at[i] << 8 | at[i + 1];
    return sum;
}

static inline unsigned short tun_checksum(unsigned sum) {
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return htons((unsigned short)~sum);
}

/* To the server's port. */
static inline void tun_send(int fd, int port, int client_port, int flags, unsigned seq, unsigned ack) {
    struct iphdr ip;
    struct tcphdr tcp;
    unsigned char packet[TUN_PACKET];
    ZERO(ip);
    ZERO(tcp);
    ip.version = 4;
    ip.ihl = sizeof ip / 4;
    ip.tot_len = htons(TUN_PACKET);
    ip.ttl = 64;
    ip.protocol = IPPROTO_TCP;
    ip.saddr = inet_addr("10.11.0.2");
    ip.daddr = inet_addr("10.11.0.1");
    ip.check = tun_checksum(tun_sum(&ip, sizeof ip, 0));
    tcp.source = htons((unsigned short)client_port);
    tcp.dest = htons((unsigned short)port);
    tcp.seq = htonl(seq);
    tcp.ack_seq = htonl(ack);
    tcp.doff = sizeof tcp / 4;
    tcp.window = htons(32768);
    memcpy(packet + sizeof ip, &tcp, sizeof tcp);
    packet[sizeof ip + 13] = (unsigned char)flags;
    unsigned sum = tun_sum(&ip.saddr, 8, IPPROTO_TCP + sizeof tcp);
    unsigned short check = tun_checksum(tun_sum(packet + sizeof ip, sizeof tcp, sum));
    memcpy(packet, &ip, sizeof ip);
    memcpy(packet + sizeof ip + 16, &check, 2);
    CHECK_EQ(write(fd, packet, sizeof packet), sizeof packet);
}

/* The next packet to one of the clients; 0 if there is none. */
static inline int tun_receive(int fd, tun_packet_t *packet) {
    unsigned char bytes[2048];
    struct iphdr ip;
    struct tcphdr tcp;
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0) {
        if (n < TUN_PACKET || bytes[0] >> 4 != 4) continue; /* IPv6 looks for neighbours */
        memcpy(&ip, bytes, sizeof ip);
        size_t at = (size_t)ip.ihl * 4;
        if (ip.protocol != IPPROTO_TCP || (size_t)n < at + sizeof tcp) continue;
        memcpy(&tcp, bytes + at, sizeof tcp);
        packet->flags = bytes[at + 13] & 0x1f;
        packet->client_port = ntohs(tcp.dest);
        packet->seq = ntohl(tcp.seq);
        packet->ack = ntohl(tcp.ack_seq);
        packet->length = (size_t)n - at - (size_t)tcp.doff * 4;
        return 1;
    }
    return 0;
}

#endif
