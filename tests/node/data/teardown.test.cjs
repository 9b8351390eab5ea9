'use strict';

// worker_threads that end in the middle of accepting take everything with them.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const path = require('node:path');
const { hasKernel, ours } = require('../support/index.cjs');

const PROGRAM = path.join(__dirname, '..', '..', 'rigs', 'faults', 'node', 'teardown.cjs');
const THREADS = 40;

for (const kind of ['passed', 'rotation', ...hasKernel() ? ['kernel'] : []]) {
  test(`${kind}: threads terminated while they accept leave no descriptor, and nothing crashes`, ours, () => {
    const { CL_MECHANISM: _, ...env } = process.env;
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, `${THREADS}`, kind], {
      encoding: 'utf8', env, timeout: 60_000,
    });
    assert.deepEqual([status, signal], [0, null], stderr);
    const { threads, answers, before, after } = JSON.parse(stdout);
    assert.equal(threads, THREADS);
    assert.ok(answers > THREADS, `${answers} answers`);
    assert.ok(after <= before, `${after} descriptors, ${before} before`);
  });
}
