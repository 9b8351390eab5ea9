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
    char *name;                         /* room for the name of the object that has it; "": the program; NULL: no matter */
};
enum { CL__NAME_ROOM = 4096 };

CL__FN void cl__note_name(struct cl__search *search, const struct cl__object *object) {
    if (search->name != NULL) snprintf(search->name, CL__NAME_ROOM, "%s", object->name != NULL ? object->name : "");
}

/* Tools that edit an object may leave a note's header that leads nowhere. */
CL__FN int cl__can_read(const struct cl__object *object, const ElfW(Phdr) *notes) {
    for (int i = 0; i < object->count; i++) {
        const ElfW(Phdr) *header = &object->headers[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_R) && notes->p_vaddr >= header->p_vaddr &&
            notes->p_memsz <= header->p_memsz && notes->p_vaddr - header->p_vaddr <= header->p_memsz - notes->p_memsz)
            return 1;
    }
    return 0;
}

CL__FN int cl__look_at(void *given, size_t size, void *into) {
    const struct cl__object *object = (const struct cl__object *)given;
    struct cl__search *search = (struct cl__search *)into;
    const struct cl__note wanted = {12, 4, 1, "libcluster", 0};
    (void)size;
    for (int i = 0; i < object->count; i++) {
        const ElfW(Phdr) *header = &object->headers[i];
        if (header->p_type != PT_NOTE || !cl__can_read(object, header)) continue;
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
            cl__note_name(search, object);
            return 1;
        }
    }
    return 0;
}

CL__FN struct cl__process *cl__look_for(struct cl__process *wanted, char *name) {
    struct cl__search search = {wanted, NULL, name};
    if (name != NULL) name[0] = '\0';
    cl__os_dl_iterate_phdr(cl__look_at, &search);
    return search.found != NULL ? search.found : &cl__own;
}

/* What all objects of this process use. */
CL__FN struct cl__process *cl__this(void) {
    struct cl__process *agreed = __atomic_load_n(&cl__agreed, __ATOMIC_ACQUIRE);
    return agreed != NULL ? agreed : cl__look_for(NULL, NULL);
}

/* An object that is there, and that dlclose(3) does not take away from here on; NULL: the program, or there is no such. */
CL__FN void *cl__keep_object(const char *name) {
    return name[0] != '\0' && cl__weak_dlopen ? cl__weak_dlopen(name, RTLD_LAZY | CL__RTLD_NOLOAD) : NULL;
}

/* Before the first use that makes anything. What all use stays, and so does the code of this object, which the watch
 * runs. The object that was found might be gone before it is kept. */
CL__FN void cl__agree(void) {
    char name[CL__NAME_ROOM];
    struct cl__process *agreed;
    (void)cl__look_for(&cl__own, name);
    (void)cl__keep_object(name);
    do {
        agreed = cl__look_for(NULL, name);
        (void)cl__keep_object(name);
    } while (cl__look_for(NULL, NULL) != agreed);
    __atomic_store_n(&cl__agreed, agreed, __ATOMIC_RELEASE);
}

CL__FN int cl__look_at_library(void *given, size_t size, void *into) {
    const struct cl__object *object = (const struct cl__object *)given;
    const char *file = object->name != NULL ? strrchr(object->name, '/') : NULL;
    (void)size;
    if (file == NULL || strncmp(file, "/libcluster.so", 14) != 0) return 0;
    cl__note_name((struct cl__search *)into, object);
    return 1;
}

/* The library, if the program or another plugin has brought it into the process. */
CL__FN void *cl__library_here(void) {
    char name[CL__NAME_ROOM] = "";
    struct cl__search search = {NULL, NULL, name};
    cl__os_dl_iterate_phdr(cl__look_at_library, &search);
    return cl__keep_object(name);
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
