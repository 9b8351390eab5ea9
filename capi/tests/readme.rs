//! The programs in README.md are the examples: what a reader copies is what the tests run.

use std::path::Path;

#[test]
fn the_readmes_programs_are_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut programs = 0;
    for part in readme.split("<!-- ").skip(1) {
        let (file, rest) = part.split_once(" -->\n```").expect("a program stands right behind its name");
        let program = rest.split_once('\n').and_then(|(_, text)| text.split_once("\n```")).expect("a code block").0;
        let example = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(example.contains(program), "README.md shows a {file} that is not the one in the tree");
        programs += 1;
    }
    assert!(programs > 0, "README.md names no example");
}
