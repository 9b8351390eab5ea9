'use strict';

// Heap snapshots and what is in one that is not in another, by constructor.

const fs = require('node:fs');
const v8 = require('node:v8');
const vm = require('node:vm');

v8.setFlagsFromString('--expose-gc');
const gc = vm.runInNewContext('gc');

// What V8 makes of code that runs often is no object of the program's.
const OF_PROGRAMS = ['object', 'closure', 'native', 'regexp', 'bigint', 'symbol'];

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Writes what is alive; the parse is for another process or a later time, because it fills the heap. */
async function snapshot(file) {
  // Finalizers and what they let go of need turns of their own.
  for (let i = 0; i < 4; i++) {
    gc();
    await turn();
  }
  v8.writeHeapSnapshot(file);
}

/** { bytes, counts: { constructor: how many } } of a file that `snapshot` wrote. */
function read(file) {
  const { snapshot: { meta }, nodes, strings } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const [types] = meta.node_types;
  const width = meta.node_fields.length;
  const [type, name, size] = ['type', 'name', 'self_size'].map((field) => meta.node_fields.indexOf(field));
  const counts = {};
  let bytes = 0;
  for (let i = 0; i < nodes.length; i += width) {
    bytes += nodes[i + size];
    const kind = types[nodes[i + type]];
    if (!OF_PROGRAMS.includes(kind)) continue;
    const key = `${kind} ${strings[nodes[i + name]].slice(0, 60)}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return { bytes, counts };
}

/** What has grown from one to the other: { bytes, most: [constructor, by how many] }, and all that grew, the most first. */
function difference(before, after) {
  const [first, last] = [read(before), read(after)];
  const grown = Object.entries(last.counts)
    .map(([key, count]) => [key, count - (first.counts[key] ?? 0)])
    .filter(([, more]) => more > 0)
    .sort((one, other) => other[1] - one[1]);
  return { bytes: last.bytes - first.bytes, most: grown[0] ?? ['nothing', 0], grown };
}

module.exports = { difference, snapshot };
