'use strict';

// The JavaScript behind a command such as npm, which is a link in node_modules/.bin or in a folder of PATH, or a small shell script there.

const fs = require('node:fs');
const path = require('node:path');

const HEAD = 4096;
const JAVASCRIPT = /\.[cm]?[jt]sx?$/;

function isFile(file) {
  try {
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

function headOf(file) {
  const buffer = Buffer.alloc(HEAD);
  const fd = fs.openSync(file, 'r');
  try {
    return buffer.toString('latin1', 0, fs.readSync(fd, buffer, 0, HEAD, 0));
  } finally {
    fs.closeSync(fd);
  }
}

/** The file that Node is to run for this one: itself, or what the shell script that a package manager made starts; null for other programs. */
function javascriptOf(file) {
  if (JAVASCRIPT.test(fs.realpathSync(file))) return file;
  const head = headOf(file);
  if (/^\x7fELF|^#!.*sh\b/.test(head)) {
    const [, target] = /\bnode"?\s+"\$basedir\/([^"]+)"/.exec(head) ?? [];
    return target === undefined ? null : path.resolve(path.dirname(file), target);
  }
  return file;
}

function* folders() {
  for (let at = process.cwd(); ; at = path.dirname(at)) {
    yield path.join(at, 'node_modules', '.bin');
    if (at === path.dirname(at)) break;
  }
  yield* (process.env.PATH ?? '').split(path.delimiter).filter((folder) => folder !== '');
}

/** The file of a command, as a package script finds it; undefined if there is none of that name. */
function fileOf(name) {
  if (name !== path.basename(name)) return undefined;
  for (const folder of folders()) {
    const file = path.join(folder, name);
    if (isFile(file)) return file;
  }
  return undefined;
}

module.exports = { fileOf, isFile, javascriptOf };
