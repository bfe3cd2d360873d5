/*
 * Lets the unmodified xenstored of Xen 4.17 run on a machine without Xen, as the reference of the differential test.
 * Preloaded, it answers the 17 functions of libxenctrl, libxenevtchn and libxengnttab that the daemon calls:
 *   domains         files SHIM_DIR/dom-N: there is a domain N as long as there is the file
 *   grants          files SHIM_DIR/ring-N: the page of domain N's ring
 *   event channels  datagrams of one u32, to the daemon at SHIM_DIR/evtchn, to domain N at SHIM_DIR/evtchn-N
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORTS 1024
#define FIRST_PORT 100 /* local port of domain N is FIRST_PORT + N */
#define RUNNING 32

static int events = -1;
static int domain_of[PORTS];
static int handle;

static void in_dir(char *path, size_t size, const char *form, unsigned number)
{
    const char *dir = getenv("SHIM_DIR");
    int length = snprintf(path, size, "%s/", dir ? dir : ".");
    snprintf(path + length, size - length, form, number);
}

static int page_file(unsigned domid)
{
    char path[512];
    in_dir(path, sizeof path, "ring-%u", domid);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    return fd >= 0 && ftruncate(fd, 4096) ? -1 : fd;
}

void *xc_interface_open(void *a, void *b, unsigned flags) { return &handle; }
int xc_interface_close(void *h) { return 0; }

int xc_domain_getinfo(void *h, uint32_t first, unsigned max, void *info)
{
    char path[512];
    in_dir(path, sizeof path, "dom-%u", first);
    if (first && access(path, F_OK))
        return 0;
    memset(info, 0, 16);
    ((uint32_t *)info)[0] = first;
    ((uint32_t *)info)[2] = RUNNING;
    return 1;
}

static struct sockaddr_un address(const char *form, unsigned number)
{
    struct sockaddr_un found = { .sun_family = AF_UNIX };
    in_dir(found.sun_path, sizeof found.sun_path, form, number);
    return found;
}

void *xenevtchn_open(void *logger, unsigned flags)
{
    struct sockaddr_un own = address("evtchn", 0);
    events = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(own.sun_path);
    return bind(events, (void *)&own, sizeof own) ? NULL : &handle;
}

void *xenevtchn_fdopen(void *logger, int fd, unsigned flags) { return xenevtchn_open(logger, flags); }
int xenevtchn_fd(void *h) { return events; }
int xenevtchn_bind_virq(void *h, unsigned virq) { return 1; }
int xenevtchn_unbind(void *h, uint32_t port) { return 0; }
int xenevtchn_unmask(void *h, uint32_t port) { return 0; }

int xenevtchn_bind_interdomain(void *h, uint32_t domid, uint32_t remote)
{
    int port = FIRST_PORT + (int)domid;
    if (port < PORTS)
        domain_of[port] = (int)domid;
    return port;
}

int xenevtchn_notify(void *h, uint32_t port)
{
    struct sockaddr_un peer = address("evtchn-%u", port < PORTS ? domain_of[port] : 0);
    (void)!sendto(events, &port, sizeof port, MSG_DONTWAIT, (void *)&peer, sizeof peer);
    return 0;
}

int xenevtchn_pending(void *h)
{
    uint32_t port;
    return recv(events, &port, sizeof port, MSG_DONTWAIT) == sizeof port ? (int)port : -1;
}

void *xengnttab_open(void *logger, unsigned flags) { return &handle; }
int xengnttab_close(void *h) { return 0; }
int xengnttab_set_max_grants(void *h, uint32_t count) { return 0; }
int xengnttab_unmap(void *h, void *page, uint32_t count) { return munmap(page, 4096); }

void *xengnttab_map_grant_ref(void *h, uint32_t domid, uint32_t ref, int protection)
{
    int fd = page_file(domid);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

/* dom0's own ring and port, which its kernel would offer in these two files */
int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    char own[512];
    va_list rest;
    if (!real)
        real = dlsym(RTLD_NEXT, "open");
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (!strcmp(path, "/proc/xen/xsd_kva") || !strcmp(path, "/dev/xen/xsd_kva"))
        return page_file(0);
    if (strcmp(path, "/proc/xen/xsd_port"))
        return real(path, flags, mode);
    in_dir(own, sizeof own, "port", 0);
    int fd = real(own, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0 && write(fd, "7\n", 2) == 2)
        lseek(fd, 0, SEEK_SET);
    return fd;
}
