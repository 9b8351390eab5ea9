'use strict';

// Finds and loads the native addon by trying names in a fixed order. Asking process.report for the C library would cost every worker
// more than all the tries together.

const fs = require('node:fs');
const path = require('node:path');

const { arch, platform } = process;
const home = path.join(__dirname, '..');
const LIBCS = ['gnu', 'musl'];
const CODE = 'ERR_CLUSTER_RS_ADDON';

// A try gives { addon }, or the reason in words and the error if there was one.
function open(file) {
  try {
    // A worker loads a file that its primary has just loaded.
    const reason = process.env.CL_CHANNEL_FD === undefined || process.env.CLUSTER_RS_ADDON ? require('./elf.cjs').damage(file) : undefined;
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

// A bundler puts this file's text into a file of another name, and leaves the addon and the workers' preload behind.
function isBundled() {
  return !fs.existsSync(path.join(__dirname, 'addon.cjs')) || !fs.existsSync(path.join(home, 'register.cjs'));
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
  throw require('./no-addon.cjs').failure(failed, CODE, isBundled());
}

/** Undefined where the addon is loaded; the error of load() where this system has none. If it should have one that error is thrown. */
function absence() {
  if (!loaded && !absent) {
    try {
      load();
    } catch (error) {
      if (otherRuntime() || require('./no-addon.cjs').isDue(isBundled())) throw error;
      absent = error;
    }
  }
  return absent;
}

module.exports = { absence, load };
