'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const { play } = require('./support/index.cjs');

test('a worker answers', async () => {
  const run = await play({
    async primary({ cluster, report, happens, request }) {
      const worker = cluster.fork();
      const [address] = await happens(worker, 'listening');
      report('answer', (await request(address.port)).body);
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker() {
      require('node:http').createServer((asked, answer) => answer.end('hello')).listen(0);
    },
  });
  assert.equal(run.one('answer'), 'hello');
  assert.deepEqual(run.all('exit'), [[0, null]]);
});
