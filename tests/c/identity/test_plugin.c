/* A program and its plugins, each with cluster.h compiled in: one process, one identity, one set of listeners, whichever of them is used
 * first. */
#include "primary.h"

#include <dlfcn.h>

typedef struct {
    void *object;
    int (*worker_id)(void);
    int (*listen)(const char *address);
    int (*accept)(int listener);
    int (*close)(int listener);
    int (*send)(const void *data, size_t length);
    int (*fork)(void);
} plugin_t;

static void find(void *object, const char *name, void *to) {
    void *symbol = dlsym(object, name);
    CHECK(symbol != NULL);
    memcpy(to, &symbol, sizeof symbol);
}

/* The plugin that is made as the program is, or the one with CL_HEADER_ONLY. `copy`: loaded as another object. */
static plugin_t load(const char *ending, const char *copy) {
    plugin_t it;
    char path[4200], command[8600];
    snprintf(path, sizeof path, "%s%s", check_self(), ending);
    if (copy != NULL) {
        snprintf(command, sizeof command, "cp '%s' '%s/%s.so'", path, getenv("CHECK_DIR"), copy);
        CHECK_EQ(system(command), 0);
        snprintf(path, sizeof path, "%s/%s.so", getenv("CHECK_DIR"), copy);
    }
    it.object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (it.object == NULL) check_fail(__FILE__, __LINE__, "%s", dlerror());
    find(it.object, "plugin_worker_id", &it.worker_id);
    find(it.object, "plugin_listen", &it.listen);
    find(it.object, "plugin_accept", &it.accept);
    find(it.object, "plugin_close", &it.close);
    find(it.object, "plugin_send", &it.send);
    find(it.object, "plugin_fork", &it.fork);
    return it;
}

static void serve_one(int listener, int (*accept_one)(int)) {
    int client = connect4(bound_port(listener));
    answer(OK(accept_one(listener)));
    close(client);
}
static int accept_here(int listener) { return cl_accept(listener, NULL, NULL); }

static void share(plugin_t *plugin) {
    int here = OK(cl_listen("127.0.0.1:0", 0)), there = OK(plugin->listen("127.0.0.1:0"));
    CHECK(bound_port(here) != bound_port(there));
    serve_one(here, plugin->accept);
    serve_one(there, accept_here);
    OK(plugin->close(here));
    CHECK_EQ(cl_accept(here, NULL, NULL), -EBADF);
    OK(cl_close(there));
    CHECK_EQ(plugin->accept(there), -EBADF);
    if (cl_is_worker() == 1) {
        OK(plugin->send("from there", 10));
        OK(cl_send("from here", 9));
        CHECK_EQ(plugin->fork(), -EPERM);
    }
}

/* The program finds out first what this process is. */
static void program_first(void) {
    int id = OK(cl_worker_id());
    plugin_t plugin = load(".so", NULL);
    CHECK_EQ(plugin.worker_id(), id);
    share(&plugin);
    dlclose(plugin.object);
    CHECK_EQ(cl_worker_id(), id);
}
IN_WORKERS(program_first)

/* A plugin does, and is gone afterwards as far as the program knows. */
static void plugin_first(void) {
    plugin_t first = load(".so", NULL), second = load(".so", "second");
    int id = OK(first.worker_id()), listener = OK(first.listen("127.0.0.1:0"));
    dlclose(first.object);
    CHECK_EQ(second.worker_id(), id);
    serve_one(listener, second.accept);
    OK(second.close(listener));
    CHECK_EQ(cl_worker_id(), id);
    share(&second);
}
IN_WORKERS(plugin_first)

/* The library is in the process, and the plugin has the header only. In either order they agree. */
static void mixed(void) {
    plugin_t plugin = load(".header.so", NULL);
    int id = OK(plugin.worker_id());
    CHECK_EQ(cl_worker_id(), id);
    share(&plugin);
    dlclose(plugin.object);
    plugin = load(".header.so", "later");
    CHECK_EQ(plugin.worker_id(), id);
    share(&plugin);
}
IN_WORKERS(mixed)

/* What the plugin has in a primary and in a child of it that is no member. */
static void of_a_primary(void) {
    plugin_t plugin = load(".so", NULL);
    primary_ready(serve_any_port);
    CHECK_EQ(plugin.worker_id(), 0);
    int id = fork_worker(), port = await_listening(id, 1);
    CHECK_EQ(ask(port), id);
    pid_t child = SYS(fork());
    if (child == 0) _exit(plugin.worker_id() == -ECHILD && plugin.fork() == -ECHILD ? 0 : 1);
    CHECK_EQ(wait_status(child), 0);
    finish();
}

static const check_case_t cases[] = {ROLE_CASES(program_first), ROLE_CASES(plugin_first), ROLE_CASES(mixed),
                                    {"of_a_primary", of_a_primary}};
CHECK_MAIN(cases)
