/* -- One process of several objects -----------------------------------------------------------------------------------
 * The linker keeps one `cl__own` for a program or a shared object. Where several of these have this code, as a program
 * and its plugins, all use that of the object that was loaded first. They find each other by a note (elf(5), PT_NOTE),
 * which needs no exported symbol. Objects of other versions of this file are passed over. */

struct cl__card {
    unsigned version, size; /* of struct cl__process */
    struct cl__process *own;
};
extern const struct cl__card cl__card __attribute__((weak, visibility("hidden")));
__attribute__((used)) const struct cl__card cl__card = {CL_VERSION_NUMBER, sizeof(struct cl__process), &cl__own};

/* How far it is from the end of the note to the card. Assembler, because C has no way to say it without a relocation,
 * which would need a writable section. */
struct cl__note {
    unsigned name_size, size, type;
    char name[12];
    int distance;
};
__asm__(".pushsection .note.libcluster, \"a\", %note\n"
        ".balign 4\n"
        ".long 12, 4, 1\n"
        ".ascii \"libcluster\\0\\0\"\n"
        ".long cl__card - .\n"
        ".popsection");

/* The first members of glibc's struct dl_phdr_info. */
struct cl__object {
    ElfW(Addr) address;
    const char *name;
    const ElfW(Phdr) *headers;
    ElfW(Half) count;
};
struct cl__search {
    struct cl__process *wanted, *found; /* wanted: this one; NULL: the first */
    char name[4096];                    /* of the object that has it; "": the program, which stays */
};

CL__FN int cl__look_at(void *given, size_t size, void *into) {
    const struct cl__object *object = (const struct cl__object *)given;
    struct cl__search *search = (struct cl__search *)into;
    const struct cl__note wanted = {12, 4, 1, "libcluster", 0};
    (void)size;
    for (int i = 0; i < object->count; i++) {
        const ElfW(Phdr) *header = &object->headers[i];
        if (header->p_type != PT_NOTE) continue;
        const char *notes = (const char *)(object->address + header->p_vaddr);
        for (size_t at = 0; at + sizeof wanted <= header->p_memsz; at += 4) {
            int distance;
            if (memcmp(notes + at, &wanted, offsetof(struct cl__note, distance)) != 0) continue;
            memcpy(&distance, notes + at + offsetof(struct cl__note, distance), sizeof distance);
            const void *place = notes + at + offsetof(struct cl__note, distance) + distance;
            const struct cl__card *card = (const struct cl__card *)place;
            if (card->version != cl__card.version || card->size != cl__card.size) continue;
            if (search->wanted != NULL && search->wanted != card->own) continue;
            search->found = card->own;
            snprintf(search->name, sizeof search->name, "%s", object->name != NULL ? object->name : "");
            return 1;
        }
    }
    return 0;
}

CL__FN struct cl__process *cl__look_for(struct cl__process *wanted, struct cl__search *search) {
    search->wanted = wanted;
    search->found = NULL;
    search->name[0] = '\0';
    cl__os_dl_iterate_phdr(cl__look_at, search);
    return search->found != NULL ? search->found : &cl__own;
}

/* What all objects of this process use. */
CL__FN struct cl__process *cl__this(void) {
    struct cl__search search;
    struct cl__process *agreed = __atomic_load_n(&cl__agreed, __ATOMIC_ACQUIRE);
    return agreed != NULL ? agreed : cl__look_for(NULL, &search);
}

/* dlclose(3) is not to take away an object that has what all use, or whose code the watch runs. */
CL__FN void cl__keep_object(const struct cl__search *search) {
    if (search->name[0] != '\0' && cl__weak_dlopen) (void)cl__weak_dlopen(search->name, RTLD_LAZY | CL__RTLD_NOLOAD);
}

/* Before the first use that makes anything. The object that was found might be gone before it is kept. */
CL__FN void cl__agree(void) {
    struct cl__search search;
    struct cl__process *agreed;
    (void)cl__look_for(&cl__own, &search);
    cl__keep_object(&search);
    do {
        agreed = cl__look_for(NULL, &search);
        cl__keep_object(&search);
    } while (cl__look_for(NULL, &search) != agreed);
    __atomic_store_n(&cl__agreed, agreed, __ATOMIC_RELEASE);
}

/* Whether this is the process that made the page. */
CL__FN int cl__is_member(unsigned char *page) {
    if (!__atomic_load_n(page, __ATOMIC_RELAXED)) return 0;
    return cl__this()->unwiped == 0 || cl__this()->unwiped == (int)getpid();
}

/* The library, once it is loaded. */
CL__FN int cl__loaded(void) { return __atomic_load_n(&cl__this()->library.loaded, __ATOMIC_ACQUIRE); }

/* Remembers whose sentence cl_last_error has to return. */
CL__FN int cl__from_library(int result) {
    if (result < 0) cl__error.in_library = 1;
    return result;
}

CL__FN const char *cl_last_error(void) {
    if (cl__error.in_library) return cl__this()->library.last_error();
    return cl__error.sentence != NULL ? cl__error.sentence : "";
}
