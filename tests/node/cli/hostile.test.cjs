'use strict';
// A worker of the command line that sends nonsense about its addresses: the primary lives, says it in one clean line or not at all,
// and the others serve.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, request } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

// Instance 0 attacks once it serves; every other one only serves.
const program = (attack) => `
  const attack = ${attack};
  require('node:http').createServer((request, response) => {
    response.end(process.env.NODE_APP_INSTANCE);
  }).listen(0, '127.0.0.1', () => {
    if (process.env.NODE_APP_INSTANCE !== '0') return;
    attack((message) => process.send({ cmd: 'NODE_CLUSTER', ...message }, () => {}));
    process.send({ tell: 'sent' }, () => console.log('sent'));
  });`;

const IS_PRINTABLE = /^[\P{C}\n]*$/u;

/** What cluster-rs itself printed while a worker attacked, after the others have answered. */
async function suffer(attack) {
  const run = await cli({ args: ['-i', '2', '--listen-timeout', '1', 'app.js'], files: { 'app.js': program(attack) } }, async (started) => {
    const [, port] = await started.wait(/listening on 127\.0\.0\.1:([0-9]+) /);
    await started.wait(/\[0\] sent/);
    const instances = new Set();
    while (!instances.has('1')) instances.add((await request(Number(port))).body);
    // What the primary says of an address, it says within the time for listening.
    await started.wait(/listening on the-end:1 /);
    started.kill();
  });
  assert.equal(run.code, 0);
  return `${run.stdout}${run.stderr}`.split('\n').filter((line) => !/^\[\d\]/.test(line));
}

test('addresses that are none', ours, async () => {
  const lines = await suffer((send) => {
    for (const addressType of [4, -1, 'udp4', null]) {
      for (const address of ['', null]) send({ act: 'listening', address, port: 1, addressType, key: 'k' });
      send({ act: 'listening', address: 'x', port: null, addressType, key: {} });
      send({ act: 'listening', address: 'x', port: 1, addressType, fd: null });
    }
    let seq = 1000;
    for (const value of [5, true, null, '']) {
      send({ act: 'queryServer', seq: seq++, address: value, port: 80, addressType: 4, index: 0, backlog: 1 });
    }
    send({ act: 'listening' });
    send({ act: 'listening', address: 'the-end', port: 1, addressType: 4 });
  });
  assert.ok(lines.every((line) => !/TypeError/.test(line)), lines.join('\n'));
});

// Node never sends one; data/hostile has them all.
test('an address that cannot be ends its worker, and the next one serves', ours, async () => {
  const attack = `(send) => {
    const fs = require('node:fs');
    if (fs.existsSync('attacked')) return;
    fs.writeFileSync('attacked', '');
    send({ act: 'listening', address: { toString: null }, port: 1, addressType: 4 });
  }`;
  const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': program(attack) } }, async (started) => {
    const port = await started.port();
    await started.wait(/worker [0-9]+: it sent an address that cannot be and was ended\n/, { on: 'stderr' });
    const instances = new Set();
    while (instances.size < 2) instances.add((await request(port)).body);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.ok(IS_PRINTABLE.test(run.stderr));
  assert.doesNotMatch(run.stderr, /TypeError/);
});

test('addresses with control characters, and with lines of ours in them', ours, async () => {
  const lines = await suffer((send) => {
    const nasty = '\u001b[2J\rx\ncluster-rs: stopped\u2028\u009b\u0000y';
    for (const addressType of [4, -1, 'udp6']) send({ act: 'listening', address: nasty, port: 1, addressType });
    send({ act: 'listening', address: 'z'.repeat(100_000), port: 1, addressType: -1 });
    send({ act: 'queryServer', seq: 1000, address: `/nowhere/${nasty}`, port: -1, addressType: -1, index: 0, backlog: 1 });
    send({ act: 'listening', address: 'the-end', port: 1, addressType: 4 });
  });
  assert.ok(lines.some((line) => line.includes('[2J')), 'what was sent is told');
  assert.ok(lines.every((line) => IS_PRINTABLE.test(line) && line.length < 1000), JSON.stringify(lines));
  assert.ok(lines.every((line) => !/^cluster-rs: stopped/.test(line)), JSON.stringify(lines));
});

test('addresses without end', ours, async () => {
  const lines = await suffer((send) => {
    send({ act: 'listening', address: 'the-end', port: 1, addressType: 4 });
    for (let i = 0; i < 5000; i++) send({ act: 'listening', address: `a${i}`, port: 1, addressType: 4 });
  });
  const told = lines.filter((line) => /listening on/.test(line)).length;
  assert.ok(told > 100 && told <= 260, `${told} lines`);
});
