'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const http = require('node:http');

const DEADLINE_MS = 60_000;

function ask(port) {
  return new Promise((resolve, reject) => {
    http.get({ port, host: '127.0.0.1', agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text) => (body += text)).on('end', () => resolve(body));
    }).on('error', reject);
  });
}

async function primary(cluster) {
  assert.equal(cluster, require('node:cluster'), 'one object');
  const workers = [cluster.fork(), cluster.fork()];
  const exits = workers.map((worker) => once(worker, 'exit'));
  const addresses = await Promise.all(workers.map((worker) => once(worker, 'listening')));
  const [port, other] = addresses.map(([address]) => address.port);
  assert.equal(port, other, 'one port');
  const answers = [];
  for (let i = 0; i < 4; i++) answers.push(await ask(port));
  // Its turns are even in the long run.
  const isExact = cluster.stats().addresses[0].mechanism !== 'rotation';
  while (!isExact && answers.length < 100 && new Set(answers).size < 2) answers.push(await ask(port));
  const counts = [0, 1].map((slot) => [slot, answers.filter((answer) => answer === `slot ${slot}`).length]);
  if (isExact) assert.deepEqual(counts, [[0, 2], [1, 2]]);
  assert.ok(counts.every(([, count]) => count > 0), answers.join());
  // Node's own round-robin would have answered the same: what tells is that the engine counted them.
  assert.deepEqual(cluster.stats().workers.map(({ slot, delivered }) => [slot, delivered]), counts);
  cluster.disconnect();
  assert.deepEqual(await Promise.all(exits), [[0, null], [0, null]]);
  console.log('both workers answered');
}

module.exports = async function run(cluster) {
  if (cluster.isWorker) {
    http.createServer((request, response) => response.end(`slot ${cluster.worker.slot}`)).listen(0, '127.0.0.1');
    return;
  }
  const deadline = setTimeout(() => {
    console.error('not done in time');
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL');
    process.exit(1);
  }, DEADLINE_MS);
  await primary(cluster);
  clearTimeout(deadline);
};

module.exports.ask = ask;
