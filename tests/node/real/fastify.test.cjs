'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { play } = require('../support/index.cjs');

const files = { 'fastify.cjs': fs.readFileSync(path.join(__dirname, 'fixtures/fastify.cjs'), 'utf8') };

test('fastify: listens on all of localhost, validates, and finishes what it began', async () => {
  const run = await play({
    files,
    async primary({ cluster, report, happens, request, until }) {
      const { lookup } = require('node:dns/promises');
      cluster.setupPrimary({ exec: 'fastify.cjs' });
      const workers = [1, 2].map(() => cluster.fork());
      const hosts = [...new Set((await lookup('localhost', { all: true })).map(({ address }) => address))];
      const listening = new Map();
      cluster.on('listening', (worker, { address, port }) => {
        listening.set(`${worker.id} ${address}`, port);
      });
      await until(() => listening.size === 2 * hosts.length, 'both workers on each address');
      report('ports', new Set(listening.values()).size);
      const [port] = listening.values();

      for (const host of hosts) {
        const seen = new Set();
        await until(async () => {
          const { body } = await request({ host, port }, { path: '/who' });
          return seen.add(JSON.parse(body).pid).size === 2;
        }, `answers by both workers on ${host}`);
      }
      report('hosts', hosts.length);
      const greeting = (body) => request(port, {
        path: '/greeting', method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' },
      });
      for (const body of [{ name: 'you' }, { nam: 'you' }]) {
        const answer = await greeting(body);
        report('greeting', answer.status, JSON.parse(answer.body).greeting);
      }

      // A request is under way when its worker is asked to leave. The other one serves whoever comes now.
      const slow = request(port, { path: '/slow' });
      const [leaving] = await happens(cluster, 'message');
      leaving.disconnect();
      const [staying] = workers.filter((worker) => worker !== leaving);
      await until(async () => JSON.parse((await request(port, { path: '/who' })).body).pid === staying.process.pid,
        'an answer by the one that stays');
      const others = new Set();
      for (let i = 0; i < 6; i++) others.add(JSON.parse((await request(port, { path: '/who' })).body).pid);
      report('others', [...others].map((pid) => pid === staying.process.pid));
      leaving.send('release');
      const answer = await slow;
      report('slow', answer.status, JSON.parse(answer.body).pid === leaving.process.pid);
      report('exit', ...await happens(leaving, 'exit'));
      staying.disconnect();
      report('exit', ...await happens(staying, 'exit'));
    },
  });

  assert.equal(run.one('ports'), 1);
  assert.ok(run.one('hosts') >= 1);
  assert.deepEqual(run.all('greeting'), [[200, 'hello you'], [400, null]]);
  assert.deepEqual(run.one('others'), [true]);
  assert.deepEqual(run.all('slow'), [[200, true]]);
  assert.deepEqual(run.all('exit'), [[0, null], [0, null]]);
});

test('fastify: all workers are replaced one after another, and no request fails', async () => {
  const run = await play({
    files,
    async primary({ cluster, report, happens, request }) {
      cluster.setupPrimary({ exec: 'fastify.cjs' });
      const start = async () => {
        const worker = cluster.fork();
        const [{ port }] = await happens(worker, 'listening');
        return { worker, port };
      };
      let running = [await start(), await start(), await start()];
      const [{ port }] = running;
      const counted = { answered: 0, failed: [] };
      let going = true;
      const client = async () => {
        while (going) {
          const result = await request(port, { path: '/who' }).then(({ status }) => status, String);
          if (result === 200) counted.answered++;
          else counted.failed.push(result);
        }
      };
      const clients = [client(), client(), client(), client()];
      for (let round = 0; round < 2; round++) {
        const old = running;
        running = [];
        for (const { worker } of old) {
          running.push(await start());
          const gone = happens(worker, 'exit');
          worker.disconnect();
          report('exit', ...await gone);
        }
      }
      going = false;
      await Promise.all(clients);
      report('counted', counted);
      cluster.disconnect();
    },
  });

  const { answered, failed } = run.one('counted');
  assert.deepEqual(failed, []);
  assert.ok(answered >= 6, `${answered} answered`);
  assert.deepEqual(run.all('exit'), Array(6).fill([0, null]));
});
