'use strict';

// What connections and workers leave behind in the heaps of the primary and the workers: nothing. `make faults` does the same with
// 200,000 connections.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const path = require('node:path');
const { mechanism, ours } = require('../support/index.cjs');

const PROGRAM = path.join(__dirname, '..', '..', 'rigs', 'faults', 'node', 'soak.cjs');
const CONNECTIONS = 1500;

test('heap snapshots before and after many connections and some workers are alike', ours, (t) => {
  const { CL_MECHANISM: _, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, mechanism(), `${CONNECTIONS}`], {
    encoding: 'utf8', env, timeout: 120_000,
  });
  assert.equal(status, 0, stderr);
  for (const { who, descriptors, bytes, most } of JSON.parse(stdout)) {
    t.diagnostic(`${who}: ${bytes} bytes, ${JSON.stringify(most)}`);
    assert.ok(descriptors <= 0, `${who}: ${descriptors} descriptors more`);
    // One object kept for each connection of a worker's would be hundreds.
    for (const [constructor, more] of most) assert.ok(more < 100, `${who}: ${more} more of ${constructor}`);
  }
});
