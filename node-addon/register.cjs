'use strict';

// Patches node:cluster without touching the program: node --require cluster-rs/register app.js. Workers are preloaded
// with it too. The cluster belongs to the process, so the threads that inherit this preload leave it alone.

const fs = require('node:fs');
const path = require('node:path');

// Node's own loader costs a worker some 12 kB for each file, of memory that is not shared, and there may be hundreds of workers. So
// they load the package's files in the way below. Elsewhere Node's loader does it, as where a bundler has put this text into another
// file.
const isWorker = process.env.CL_CHANNEL_FD !== undefined && __filename.endsWith('register.cjs');
const NAMES = ['exports', 'require', 'module', '__filename', '__dirname'];
const modules = new Map();
const texts = new Map();

function pathOf(folder, name) {
  // The usual forms; joining them costs more.
  return name.startsWith('./') ? `${folder}${name.slice(1)}` : path.join(folder, name);
}

function requireFrom(folder) {
  function own(name) {
    if (!name.startsWith('.')) return require(name);
    const file = pathOf(folder, name);
    return file.endsWith('.cjs') ? load(file) : require(file);
  }
  own.resolve = require.resolve;
  /** Takes the text of a file that few workers need, and maybe only when the release it is of has been removed. */
  own.keep = (name) => texts.set(pathOf(folder, name), fs.readFileSync(pathOf(folder, name)));
  return own;
}

function load(file) {
  const known = modules.get(file);
  if (known) return known.exports;
  const module = { exports: {} };
  modules.set(file, module);
  try {
    const { compileFunction } = require('node:vm');
    const run = compileFunction(texts.get(file)?.toString() ?? fs.readFileSync(file, 'utf8'), NAMES, { filename: file });
    const folder = path.dirname(file);
    run(module.exports, requireFrom(folder), module, file, folder);
  } catch (error) {
    modules.delete(file);
    throw error;
  }
  return module.exports;
}

/** In a worker, loads a file of the package by its path below lib. */
const light = isWorker ? requireFrom(path.join(__dirname, 'lib')) : undefined;

/** node:cluster, patched. */
function patched() {
  return light ? light('./patch.cjs') : require('./lib/patch.cjs');
}

module.exports = { light, patched };

// A worker's own preload finds its place in the environment and does not ask the module, which costs it less memory.
const isMain = process.env.CL_CHANNEL_FD === undefined ? require('node:worker_threads').isMainThread : !process.chdir.disabled;
if (isMain) patched();
