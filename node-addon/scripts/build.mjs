// Builds the addon and puts it next to package.json, as npm's `prepare` in a checkout. In an installed package there is
// nothing to build, and no Cargo.toml.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const home = dirname(dirname(fileURLToPath(import.meta.url)));
const cargo = process.env.CARGO || 'cargo';

function fail(message, status = 1) {
  console.error(`cluster-rs: ${message}`);
  process.exit(status);
}

if (!existsSync(join(home, 'Cargo.toml'))) process.exit(0);
if (process.platform !== 'linux') {
  console.error(`cluster-rs: no addon is built on ${process.platform}; node:cluster works in its stead`);
  process.exit(0);
}

const args = ['build', '--release', '-p', 'cluster-rs-node', '--message-format=json-render-diagnostics'];
// Cargo tells on its standard output what it made, and a person on its standard error what it does.
const built = spawnSync(cargo, args, { cwd: home, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28 });
if (built.error?.code === 'ENOENT') {
  fail(`${cargo} was not found; to build the addon in a checkout install Rust 1.88 or newer (https://rustup.rs)`);
}
if (built.error) fail(`${cargo} could not be run: ${built.error.message}`);
if (built.status !== 0) fail(`the addon was not built: cargo failed (${built.signal ?? `exit code ${built.status}`})`);

let library;
for (const line of built.stdout.toString().split('\n')) {
  if (!line.startsWith('{')) continue;
  const { reason, target, filenames } = JSON.parse(line);
  if (reason === 'compiler-artifact' && target.name === 'cluster_rs' && target.kind.includes('cdylib')) {
    library = filenames.find((name) => name.endsWith('.so'));
  }
}
if (!library) fail('cargo made no library named cluster_rs');

// Renamed into place: a process that has the old file mapped keeps it unharmed.
const file = join(home, `cluster-rs.linux-${process.arch}-gnu.node`);
const unfinished = `${file}.${process.pid}`;
try {
  copyFileSync(library, unfinished);
  renameSync(unfinished, file);
} catch (error) {
  rmSync(unfinished, { force: true });
  fail(`the addon was built but not put into place: ${error.message}`);
}
