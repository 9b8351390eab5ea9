'use strict';

// Finds and loads the native addon by trying names in a fixed order. Asking process.report for the C library would cost every worker
// more than all the tries together.

const fs = require('node:fs');
const path = require('node:path');

const { arch, platform, version } = process;
const home = path.join(__dirname, '..');
const LIBCS = ['gnu', 'musl'];
const CODE = 'ERR_CLUSTER_RS_ADDON';

// The processor that the header of a Linux library names.
const ELF_MACHINES = { x64: 62, arm64: 183, riscv64: 243, loong64: 258 };

// Looks at the file before the system does: mapping a file that was cut short ends the process with SIGBUS.
function damage(file) {
  const header = Buffer.alloc(64);
  let size;
  const fd = fs.openSync(file, 'r');
  try {
    if (!fs.fstatSync(fd).isFile()) return 'is not a file';
    size = fs.fstatSync(fd).size;
    fs.readSync(fd, header, 0, header.length, 0);
  } finally {
    fs.closeSync(fd);
  }
  if (size < header.length || header.toString('latin1', 0, 4) !== '\x7fELF') {
    return 'is damaged, or built for another system';
  }
  const machine = header.readUInt16LE(18);
  if (header[4] !== 2 || header[5] !== 1 || (ELF_MACHINES[arch] ?? machine) !== machine) {
    return 'is built for another processor';
  }
  // The table of sections is what a linker writes last.
  const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
  return size < end ? 'is damaged: it was cut short' : undefined;
}

// A try gives { addon }, or the reason in words and the error if there was one.
function open(file) {
  try {
    // A worker loads a file that its primary has just loaded.
    const reason = process.env.CL_CHANNEL_FD === undefined || process.env.CLUSTER_RS_ADDON ? damage(file) : undefined;
    if (reason) return { found: true, reason };
    const holder = { exports: {} };
    process.dlopen(holder, file);
    return { addon: holder.exports };
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return { found: false, reason: 'is not there', error };
    const [line] = error.message.split('\n');
    return { found: true, reason: `cannot be loaded (${line.replace(`${file}: `, '')})`, error };
  }
}

function openPackage(name) {
  let file;
  try {
    file = require.resolve(name);
  } catch (error) {
    return { found: false, reason: 'is not installed', error };
  }
  return open(file);
}

function* tries() {
  const named = process.env.CLUSTER_RS_ADDON;
  if (named) {
    yield { what: named, ...open(path.resolve(named)) };
    return;
  }
  for (const libc of LIBCS) {
    const file = path.join(home, `cluster-rs.${platform}-${arch}-${libc}.node`);
    yield { what: file, ...open(file) };
  }
  for (const libc of LIBCS) {
    const name = `cluster-rs-${platform}-${arch}-${libc}`;
    yield { what: name, ...openPackage(name) };
  }
}

function isMusl() {
  const { report } = process;
  const { excludeNetwork } = report;
  // With the network it would look names up.
  report.excludeNetwork = true;
  const { glibcVersionRuntime } = report.getReport().header;
  report.excludeNetwork = excludeNetwork;
  return glibcVersionRuntime === undefined;
}

// Whether this system is one that has an addon, so that it is a fault if it cannot be loaded.
function isDue() {
  if (process.env.CLUSTER_RS_ADDON || process.env.CLUSTER_RS_STRICT === '1' || isBundled()) return true;
  if (platform !== 'linux') return false;
  const libc = isMusl() ? 'musl' : 'gnu';
  const { optionalDependencies } = require('../package.json');
  if (`cluster-rs-linux-${arch}-${libc}` in Object(optionalDependencies)) return true;
  return libc === 'gnu' && (arch === 'x64' || isCheckout());
}

function isCheckout() {
  return fs.existsSync(path.join(home, 'Cargo.toml'));
}

// A bundler puts this file's text into a file of another name, and leaves the addon and the workers' preload behind.
function isBundled() {
  return !fs.existsSync(path.join(__dirname, 'addon.cjs')) || !fs.existsSync(path.join(home, 'register.cjs'));
}

function advice(broken, reasons) {
  if (process.env.CLUSTER_RS_ADDON) return 'correct or unset CLUSTER_RS_ADDON';
  if (platform !== 'linux') return 'it is built for Linux only';
  if (!isDue()) return `it is not built for ${platform}-${arch}${isMusl() ? ' with musl' : ''}`;
  if (isCheckout()) return 'run "npm install" in node-addon (it needs cargo)';
  if (reasons.includes('GLIBC_')) return 'the C library here is older than the addon needs: use a newer system, or build it here in a checkout';
  if (broken) return 'remove node_modules and install again, on the machine where the program runs';
  return `install the package cluster-rs-${platform}-${arch}-gnu; a lock file that was made on another platform ` +
    'may lack it: remove it and node_modules, and install again (npm/cli #4828)';
}

function failure(failed) {
  // A file that is there and does not work explains more than those that are not there.
  const broken = failed.filter((attempt) => attempt.found);
  const told = broken.length > 0 ? broken : isDue() ? failed : [];
  const reasons = told.map(({ what, reason }) => `${what} ${reason}`).join(', ');
  const here = `${platform}-${arch}, Node ${version}`;
  const message = `cluster-rs has no native addon for ${here}: ${reasons ? `${reasons}; ` : ''}${advice(broken.length > 0, reasons)}`;
  const causes = failed.map(({ what, reason, error }) => error ?? new Error(`${what} ${reason}`));
  const cause = causes.length === 1 ? causes[0] : new AggregateError(causes, 'every place was tried');
  return Object.assign(new Error(message, { cause }), { code: CODE });
}

// Other programs that run JavaScript have neither Node's event loop nor its descriptors, and the addon would bring them down.
function otherRuntime() {
  const { bun, deno } = process.versions;
  const name = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : undefined;
  return name && `cluster-rs does not run under ${name}: run the program with Node, or use node:cluster`;
}

function bundled() {
  // A worker's files have just been found.
  if (process.env.CL_CHANNEL_FD !== undefined || !isBundled()) return undefined;
  return 'cluster-rs is in a bundle or a single executable, where it finds neither its addon nor the file that workers load: mark it as ' +
    'external (esbuild --external:cluster-rs, externals in webpack and rollup), install it beside the program, and in a single ' +
    'executable load it with createRequire(process.execPath)("cluster-rs")';
}

let loaded;
let absent;

/** The addon's exports. Throws one Error, code ERR_CLUSTER_RS_ADDON, that says what was tried and what to do. */
function load() {
  if (loaded) return loaded;
  const hopeless = otherRuntime() || bundled();
  if (hopeless) throw Object.assign(new Error(hopeless), { code: CODE });
  const failed = [];
  for (const attempt of tries()) {
    if (attempt.addon) return (loaded = attempt.addon);
    failed.push(attempt);
  }
  throw failure(failed);
}

/** Undefined where the addon is loaded; the error of load() where this system has none. If it should have one that error is thrown. */
function absence() {
  if (!loaded && !absent) {
    try {
      load();
    } catch (error) {
      if (otherRuntime() || isDue()) throw error;
      absent = error;
    }
  }
  return absent;
}

module.exports = { absence, load };
