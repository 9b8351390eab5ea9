/* The other half of test_units.c. */
#include "cluster.h"
#include <stddef.h>

int part_listen(const char *address);
int part_accept(int listener);
int part_close(int listener);
int part_worker_id(void);
int part_send(const void *data, size_t length);
const char *part_last_error(void);

int part_listen(const char *address) { return cl_listen(address, 0); }
int part_accept(int listener) { return cl_accept(listener, NULL, NULL); }
int part_close(int listener) { return cl_close(listener); }
int part_worker_id(void) { return cl_worker_id(); }
int part_send(const void *data, size_t length) { return cl_send(data, length); }
const char *part_last_error(void) { return cl_last_error(); }
