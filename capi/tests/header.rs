//! `include/cluster.h` is generated from this crate's doc comments and `header/`; this test fails when it is stale.
//! `CL_BLESS=1 cargo test -p cluster-capi --test header` (or `make header`) rewrites it.

use std::fmt::Write;
use std::path::Path;

const HEAD: &str = include_str!("../header/head.h");
const TAIL: &str = "#if defined(__clang__)\n#pragma clang diagnostic pop\n#elif defined(__GNUC__)\n\
                    #pragma GCC diagnostic pop\n#endif";

/// The parts of the header-only code, from `header/inline`. Each uses only what stands before it.
const INLINE: &str = "os errors library process agreeing descriptors packets watch scoreboard signals joining messages \
                      addresses sockets line shares listeners accepting watching closing returning loading contract";

fn generate() -> String {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let mut raw = Vec::new();
    cbindgen::Builder::new().with_crate(crate_dir).with_config(config).generate().unwrap().write(&mut raw);
    let raw = String::from_utf8(raw).unwrap();
    let (types, functions) = split(&raw);

    let mut header = HEAD.replace("@VERSION_DEFINES@", &version_defines());
    let parts = crate_dir.join("header/inline").read_dir().unwrap().count();
    assert_eq!(parts, INLINE.split(' ').count() + 1, "INLINE names all parts but the includes");
    let inline: Vec<String> = INLINE.split(' ').map(part).collect();
    let sections = [
        types.trim(),
        "#ifndef CL_HEADER_ONLY",
        &extern_c(functions.trim()),
        "#else /* CL_HEADER_ONLY */",
        &part("includes"),
        &extern_c(&inline.join("\n\n")),
        "#endif /* CL_HEADER_ONLY */",
        TAIL,
        "#endif /* CLUSTER_H */",
    ];
    writeln!(header, "{}", sections.join("\n\n")).unwrap();
    header
}

fn part(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("header/inline/{name}.h"));
    std::fs::read_to_string(&path).unwrap().trim().to_owned()
}

fn extern_c(body: &str) -> String {
    format!("#ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n{body}\n\n#ifdef __cplusplus\n}}\n#endif")
}

/// Constants and types on one side, functions on the other; what cbindgen puts around them is dropped.
fn split(raw: &str) -> (String, String) {
    let body = raw.split_once("#include <sys/socket.h>").unwrap().1;
    let body = body.rsplit_once("#endif").unwrap().0;
    let mut sides = (String::new(), String::new());
    // An item is a doc comment with what follows it up to the next one.
    for item in body.split("\n/**").filter(|item| !item.trim().is_empty()) {
        // What cbindgen calls `# Safety` is for Rust readers; the parameters' descriptions say the same in C's words.
        let mut text: String = format!("/**{}", item.trim_end());
        if let Some(start) = text.find(" *\n * # Safety") {
            let end = start + text[start..].find("\n */").unwrap();
            text.replace_range(start..=end, "");
        }
        // A negative constant must survive what stands before it in an expression.
        if let Some((before, value)) = text.rsplit_once('\n').and_then(|(_, line)| line.rsplit_once(' '))
            && before.starts_with("#define")
            && value.starts_with('-')
        {
            text = text.replace(&format!("{before} {value}"), &format!("{before} ({value})"));
        }
        let side = if item.contains("CL_API") { &mut sides.1 } else { &mut sides.0 };
        writeln!(side, "{}\n", text.trim()).unwrap();
    }
    sides
}

fn version_defines() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text: String = std::iter::zip(["MAJOR", "MINOR", "PATCH"], version.split('.'))
        .map(|(name, value)| format!("#define CL_VERSION_{name} {value}\n"))
        .collect();
    write!(text, "#define CL_VERSION \"{version}\"\n#define CL_VERSION_NUMBER ").unwrap();
    text + "(CL_VERSION_MAJOR << 16 | CL_VERSION_MINOR << 8 | CL_VERSION_PATCH)"
}

#[test]
fn the_header_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/cluster.h");
    let fresh = generate();
    if std::env::var_os("CL_BLESS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == fresh, "include/cluster.h is stale: run `make header` and commit the result");
}
