/*
 * A guest driver for xenaer's network device in C, as an external program: lines on standard input and output, no
 * library. The lines are explained in docs/DRIVERS.md, the device in protocol/nic.py and protocol/device_regs.py.
 *
 *     cc -O1 -Wall -Wextra -Werror -o cnic cnic.c && xenaer campaign run cnic.yaml
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ID = 0x00, CONTROL = 0x04, STATUS = 0x08, CAUSE = 0x0c, MASK = 0x10, TX = 0x40, RX = 0x60 }; /* registers */
enum { BASE_LO = 0x00, BASE_HI = 0x04, SIZE = 0x08, TAIL = 0x0c };                                 /* of a ring */
enum { IDENTITY = 0x584e4943, RESET = 1, ENABLE = 2, HALTED = 2, ALL_CAUSES = 0xf, END = 1 };
enum { ENTRIES = 16, DESCRIPTOR = 16, BUFFER = 2048, PAYLOAD = 64, FRAME = 20 + PAYLOAD + 4 };
enum { POLL_MS = 10, MUTE_MS = 5000 };

static const unsigned char MAC[6] = {0x00, 0x16, 0x3e, 0x00, 0x00, 0x01};
static const unsigned char PEER[6] = {0x00, 0x16, 0x3e, 0xff, 0xff, 0xff};
static char line[1 << 16];
static uint32_t tx, rx, buffers, sequence; /* guest addresses; a transmit buffer, then those to receive in */
static unsigned tx_tail, rx_tail, next;    /* next: the receive entry that the device fills next */
static int running, gone, generation;      /* generation: how often the device was set up from nothing */

static void serve(char *call);

/* Ask the guest, and wait for its answer: what stands behind OK, or NULL for FAIL. Calls may come first. */
static const char *ask(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    puts("");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "OK", 2))
            return line + 2;
        if (!strncmp(line, "FAIL", 4))
            return NULL;
        serve(line);
    }
    exit(0); /* the guest is gone */
}

static uint32_t number(const char *answer) { return answer ? (uint32_t)strtoul(answer, NULL, 0) : ~0u; }
static uint32_t reg(unsigned at) { return number(ask("readl 0 %u", at)); }
static void set_reg(unsigned at, uint32_t value) { ask("writel 0 %u %lu", at, (unsigned long)value); }

static void dma_write(uint32_t address, const unsigned char *data, size_t size)
{
    char hex[2 * FRAME + 1];
    for (size_t i = 0; i < size; i++)
        sprintf(hex + 2 * i, "%02x", data[i]);
    ask("dma_write %lu %s", (unsigned long)address, hex);
}

static void dma_read(uint32_t address, unsigned char *data, size_t size)
{
    const char *hex = ask("dma_read %lu %zu", (unsigned long)address, size);
    for (size_t i = 0; i < size; i++) {
        unsigned byte = 0;
        if (hex)
            sscanf(hex + 1 + 2 * i, "%2x", &byte);
        data[i] = (unsigned char)byte;
    }
}

static void put(unsigned char *at, uint32_t value, int size, int big_endian)
{
    for (int i = 0; i < size; i++)
        at[big_endian ? size - 1 - i : i] = (unsigned char)(value >> 8 * i);
}

static void make_frame(unsigned char *frame, const unsigned char *to, const unsigned char *from, uint32_t serial)
{
    uint32_t crc = ~0u;
    memcpy(frame, to, 6);
    memcpy(frame + 6, from, 6);
    put(frame + 12, 0x88b5, 2, 1);
    put(frame + 14, serial, 4, 1);
    put(frame + 18, PAYLOAD, 2, 1);
    memset(frame + 20, (int)(sequence & 0xff), PAYLOAD);
    for (int bit = 0; bit < 8 * (FRAME - 4); bit++) {
        crc ^= bit % 8 ? 0 : frame[bit / 8];
        crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    put(frame + FRAME - 4, ~crc, 4, 1);
}

static void push(uint32_t ring, unsigned *tail, uint32_t address, unsigned size)
{
    unsigned char entry[DESCRIPTOR] = {0};
    put(entry, address, 4, 0);
    put(entry + 8, size, 4, 0);
    put(entry + 12, END, 2, 0);
    dma_write(ring + *tail * DESCRIPTOR, entry, sizeof entry);
    *tail = (*tail + 1) % ENTRIES;
}

/* Program a device that is as after power on. It does nothing before start(). */
static void set_up(void)
{
    set_reg(CONTROL, RESET);
    for (unsigned ring = TX; ring <= RX; ring += RX - TX) {
        set_reg(ring + BASE_LO, ring == TX ? tx : rx);
        set_reg(ring + SIZE, ENTRIES);
    }
    set_reg(MASK, ALL_CAUSES);
    set_reg(CONTROL, ENABLE);
    for (tx_tail = rx_tail = next = 0; rx_tail < ENTRIES - 1;)
        push(rx, &rx_tail, buffers + (1 + rx_tail) * BUFFER, BUFFER);
    generation++;
}

static void start(void)
{
    set_reg(RX + TAIL, rx_tail);
    running = 1;
}

static int healthy(void) { return reg(ID) == IDENTITY && !(reg(STATUS) & HALTED) && reg(RX + BASE_LO) == rx; }

/* Has the device filled the next receive entry? Then compare the frame, and give its buffer back. */
static int received(const unsigned char *expected, int *good)
{
    unsigned char done[8], frame[FRAME];
    dma_read(rx + next * DESCRIPTOR + 8, done, sizeof done);
    if (!done[6])
        return 0;
    dma_read(buffers + (1 + next) * BUFFER, frame, FRAME);
    *good = !memcmp(frame, expected, FRAME);
    next = (next + 1) % ENTRIES;
    push(rx, &rx_tail, buffers + (1 + rx_tail) * BUFFER, BUFFER);
    set_reg(RX + TAIL, rx_tail);
    return 1;
}

/* One frame there and back; what a reset has lost is sent again. Handlers run while this waits. */
static const char *exchange(void)
{
    unsigned char frame[FRAME], expected[FRAME];
    int sent_in = -1, mute_ms = 0, good = 0;
    sequence += 2;
    make_frame(frame, PEER, MAC, sequence);
    make_frame(expected, MAC, PEER, sequence + 1);
    while (!gone) {
        if (!running) {
            ask("msleep %d", POLL_MS);
        } else if (sent_in != generation) {
            sent_in = generation;
            mute_ms = 0;
            dma_write(buffers, frame, FRAME);
            push(tx, &tx_tail, buffers, FRAME);
            set_reg(TX + TAIL, tx_tail);
        } else if (received(expected, &good)) {
            return good ? NULL : "FAIL a frame came back different";
        } else if ((mute_ms += POLL_MS) > MUTE_MS) {
            return "FAIL no answer";
        } else if (number(ask("wait_msi %d", POLL_MS))) {
            set_reg(CAUSE, ALL_CAUSES);
        }
    }
    return "FAIL the device is gone";
}

/* -- the calls: what stands behind their names, and the line that ends them ------------------------------------- */
static const char *hello(const char *args)
{
    return strncmp(args, "1 ", 2) ? "FAIL not my version" : "OK name=cnic handlers=error_detected,slot_reset,resume";
}

static const char *probe(const char *args)
{
    (void)args;
    if (!ask("enable_device"))
        return "FAIL cannot enable the device";
    ask("set_master");
    if (reg(ID) != IDENTITY)
        return "FAIL this is no nic of xenaer";
    tx = number(ask("dma_alloc %d", ENTRIES * DESCRIPTOR));
    rx = number(ask("dma_alloc %d", ENTRIES * DESCRIPTOR));
    buffers = number(ask("dma_alloc %d", (1 + ENTRIES) * BUFFER));
    ask("enable_msi");
    ask("save_state");
    set_up();
    start();
    return "OK";
}

static const char *remove_device(const char *args)
{
    uint32_t memory[] = {tx, rx, buffers};
    (void)args;
    running = 0;
    gone = 1;
    set_reg(CONTROL, RESET);
    ask("disable_msi");
    ask("disable_device");
    for (int i = 0; i < 3; i++)
        ask("dma_free %lu", (unsigned long)memory[i]);
    return "OK";
}

static const char *transfer(const char *args)
{
    static char answer[32];
    const int count = atoi(args);
    for (int done = 0; done < count; done++) {
        const char *problem = exchange();
        if (problem)
            return problem;
    }
    snprintf(answer, sizeof answer, "OK %d", count);
    return answer;
}

static const char *error_detected(const char *state)
{
    running = 0;
    gone = !strncmp(state, "perm_failure", 12);
    if (gone)
        return "OK DISCONNECT";
    if (strncmp(state, "frozen", 6))
        return "OK CAN_RECOVER";
    ask("disable_device");
    return "OK NEED_RESET";
}

static const char *slot_reset(const char *args)
{
    (void)args;
    ask("disable_device"); /* it is still enabled if only a neighbour asked for the reset */
    if (!ask("enable_device"))
        return "OK DISCONNECT";
    ask("restore_state");
    ask("set_master");
    if (!number(ask("msi_active"))) {
        ask("disable_msi");
        ask("enable_msi");
    }
    set_up();
    return healthy() ? "OK RECOVERED" : "OK DISCONNECT";
}

static const char *resume(const char *args)
{
    (void)args;
    if (!gone && !healthy())
        set_up();
    if (!gone)
        start();
    return "OK";
}

static const struct { const char *name, *(*does)(const char *args); } CALLS[] = {
    {"hello", hello}, {"probe", probe}, {"remove", remove_device}, {"transfer", transfer},
    {"error_detected", error_detected}, {"slot_reset", slot_reset}, {"resume", resume},
};

/* One call of the guest: do it, and say how it ended. */
static void serve(char *call)
{
    const char *end = "FAIL not for me", *name = strtok(call, " \n"), *args = strtok(NULL, "\n");
    for (size_t i = 0; i < sizeof CALLS / sizeof CALLS[0]; i++)
        if (name && !strcmp(name, CALLS[i].name))
            end = CALLS[i].does(args ? args : "");
    puts(end);
    fflush(stdout);
}

int main(void)
{
    while (fgets(line, sizeof line, stdin))
        serve(line);
    return 0;
}
