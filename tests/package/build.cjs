'use strict';

// What scripts/build.mjs and scripts/npm-dirs.mjs do, with a cargo that only says what it would have built.
// node build.cjs --list; node build.cjs CASE PACKAGE SCRATCH
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [, , name, source, scratch] = process.argv;
const home = scratch && path.join(scratch, 'node-addon');
const addon = home && path.join(home, `cluster-rs.linux-${process.arch}-gnu.node`);

// A cargo that writes its arguments down and runs a few lines of shell.
function fakeCargo(lines) {
  const file = path.join(scratch, 'cargo');
  fs.writeFileSync(file, `#!/bin/sh\necho "$*" >'${scratch}/arguments'\n${lines}\n`, { mode: 0o755 });
  return file;
}

function artifact(content) {
  const target = '{"kind":["cdylib"],"crate_types":["cdylib"],"name":"cluster_rs"}';
  return `
out=\${CARGO_TARGET_DIR:-${scratch}/target}/release
mkdir -p "$out"
printf '${content}' >"$out/libcluster_rs.so"
echo 'a line that is no JSON'
echo '{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"cluster_core"},"filenames":["/nowhere/x.rlib"]}'
echo '{"reason":"compiler-artifact","target":${target},"filenames":["'"$out"'/libcluster_rs.so"]}'
echo '{"reason":"build-finished","success":true}'`;
}

function build(cargo, env = {}) {
  const script = path.join(home, 'scripts', 'build.mjs');
  const result = spawnSync(process.execPath, [script], {
    env: { PATH: process.env.PATH, CARGO: cargo, ...env },
    encoding: 'utf8',
  });
  return { status: result.status, output: result.stdout + result.stderr };
}

function dirs(...args) {
  const script = path.join(home, 'scripts', 'npm-dirs.mjs');
  const result = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });
  return { status: result.status, output: result.stdout + result.stderr };
}

function oneLine({ status, output }, pattern) {
  assert.equal(status, 1, output);
  assert.match(output, pattern);
  assert.match(output, /^[^\n]+\n$/, 'one line');
}

const leftovers = () => fs.readdirSync(home).filter((file) => file.includes('.node') && file !== path.basename(addon));
const manifest = (folder) => JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));

const cases = {
  'build-places-the-addon'() {
    assert.deepEqual(build(fakeCargo(artifact('one'))), { status: 0, output: '' });
    assert.equal(fs.readFileSync(addon, 'utf8'), 'one');
    assert.match(fs.readFileSync(path.join(scratch, 'arguments'), 'utf8'), /^build --release -p cluster-rs-node /);
    assert.deepEqual(leftovers(), []);
  },
  'build-keeps-the-file-in-use'() {
    fs.writeFileSync(addon, 'old');
    const inUse = fs.openSync(addon, 'r');
    assert.equal(build(fakeCargo(artifact('new'))).status, 0);
    assert.equal(fs.readFileSync(addon, 'utf8'), 'new');
    assert.equal(fs.readFileSync(inUse, 'utf8'), 'old');
    fs.closeSync(inUse);
  },
  'build-in-another-target-directory'() {
    const elsewhere = path.join(scratch, 'elsewhere');
    assert.equal(build(fakeCargo(artifact('there')), { CARGO_TARGET_DIR: elsewhere }).status, 0);
    assert.equal(fs.readFileSync(addon, 'utf8'), 'there');
    assert.ok(fs.existsSync(path.join(elsewhere, 'release', 'libcluster_rs.so')));
  },
  'build-without-cargo'() {
    oneLine(build('/nonexistent/cargo'), /cargo was not found.*Rust 1\.88/);
  },
  // npm runs the script where the checkout is a dependency, on a laptop too.
  'build-on-another-system'() {
    const preload = path.join(scratch, 'elsewhere.cjs');
    fs.writeFileSync(preload, "Object.defineProperty(process, 'platform', { value: 'darwin' });");
    const { status, output } = build('/nonexistent/cargo', { NODE_OPTIONS: `--require ${preload}` });
    assert.deepEqual([status, output], [0, 'cluster-rs: no addon is built on darwin; node:cluster works in its stead\n']);
    assert.equal(manifest(home).os, undefined, 'npm installs the package there');
  },
  'build-that-fails'() {
    fs.writeFileSync(addon, 'old');
    oneLine(build(fakeCargo('exit 101')), /not built: cargo failed \(exit code 101\)/);
    assert.equal(fs.readFileSync(addon, 'utf8'), 'old');
  },
  'build-without-a-library'() {
    oneLine(build(fakeCargo(`echo '{"reason":"build-finished","success":true}'`)), /no library named cluster_rs/);
  },
  'build-that-cannot-be-placed'() {
    fs.mkdirSync(addon);
    oneLine(build(fakeCargo(artifact('new'))), /built but not put into place/);
    assert.deepEqual(leftovers(), []);
  },
  'build-not-where-it-is-installed'() {
    fs.rmSync(path.join(home, 'Cargo.toml'));
    assert.deepEqual(build(fakeCargo('exit 1')), { status: 0, output: '' });
    assert.ok(!fs.existsSync(path.join(scratch, 'arguments')), 'cargo was not called');
  },
  'dirs-for-two-platforms'() {
    const out = path.join(scratch, 'release');
    const files = ['x64-gnu', 'arm64-musl'].map((name) => path.join(scratch, `cluster-rs.linux-${name}.node`));
    for (const file of files) fs.writeFileSync(file, path.basename(file));
    assert.equal(dirs(out, ...files).status, 0);
    const main = manifest(path.join(out, 'cluster-rs'));
    const names = ['cluster-rs-linux-x64-gnu', 'cluster-rs-linux-arm64-musl'];
    assert.deepEqual(main.optionalDependencies, { [names[0]]: main.version, [names[1]]: main.version });
    assert.equal(main.scripts, undefined);
    assert.ok(fs.existsSync(path.join(out, 'cluster-rs', 'lib', 'addon.cjs')));
    assert.ok(!fs.readdirSync(path.join(out, 'cluster-rs')).some((file) => file.endsWith('.node')));
    const { version, os, cpu, libc, main: entry } = manifest(path.join(out, names[1]));
    assert.equal(version, main.version);
    assert.deepEqual({ os, cpu, libc }, { os: ['linux'], cpu: ['arm64'], libc: ['musl'] });
    assert.equal(fs.readFileSync(path.join(out, names[1], entry), 'utf8'), 'cluster-rs.linux-arm64-musl.node');
    assert.deepEqual(manifest(path.join(out, names[0])).libc, ['glibc']);
    assert.ok(fs.existsSync(path.join(out, names[0], 'LICENSE-MIT')));
  },
  'dirs-of-a-wrong-name'() {
    const file = path.join(scratch, 'addon.node');
    fs.writeFileSync(file, '');
    oneLine(dirs(path.join(scratch, 'release'), file), /is not named cluster-rs/);
    oneLine(dirs(path.join(scratch, 'release'), '/nonexistent/cluster-rs.linux-x64-gnu.node'), /is not there/);
  },
  'dirs-without-an-addon'() {
    oneLine(dirs(path.join(scratch, 'release')), /there is no addon/);
    oneLine(dirs(), /usage/);
  },
};

if (name === '--list') {
  console.log(Object.keys(cases).join('\n'));
} else {
  fs.rmSync(scratch, { recursive: true, force: true });
  fs.cpSync(source, home, {
    recursive: true,
    filter: (file) => !file.endsWith('.node') && path.basename(file) !== 'node_modules',
  });
  // The scripts go by this file; what is in it is cargo's affair.
  fs.writeFileSync(path.join(home, 'Cargo.toml'), '');
  cases[name]();
}
