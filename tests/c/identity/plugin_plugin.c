/* The plugin of test_plugin.c. */
#include "cluster.h"

int plugin_worker_id(void);
int plugin_listen(const char *address);
int plugin_accept(int listener);
int plugin_close(int listener);
int plugin_send(const void *data, size_t length);
int plugin_fork(void);

int plugin_worker_id(void) { return cl_worker_id(); }
int plugin_listen(const char *address) { return cl_listen(address, 0); }
int plugin_accept(int listener) { return cl_accept(listener, NULL, NULL); }
int plugin_close(int listener) { return cl_close(listener); }
int plugin_send(const void *data, size_t length) { return cl_send(data, length); }
int plugin_fork(void) { return cl_fork(); }
