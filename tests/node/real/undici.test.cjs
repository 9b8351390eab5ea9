'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const { exactTurns, ours, play } = require('../support/index.cjs');

function worker() {
  const http = require('node:http');
  http.createServer((request, response) => {
    let length = 0;
    request.on('data', (data) => { length += data.length; });
    request.on('end', () => response.end(JSON.stringify({ pid: process.pid, url: request.url, length })));
  }).listen(0, '127.0.0.1');
}

test('undici: a pool of kept connections with pipelining', async () => {
  const run = await play({
    worker,
    env: exactTurns(), // of six connections at once each worker has two
    async primary({ cluster, report, happens }) {
      const { Pool } = require('undici');
      const workers = [1, 2, 3].map(() => cluster.fork());
      const [[{ port }]] = await Promise.all(workers.map((one) => happens(one, 'listening')));
      const pool = new Pool(`http://127.0.0.1:${port}`, { connections: 6, pipelining: 4 });
      const body = Buffer.alloc(100_000);
      const answers = await Promise.all(Array.from({ length: 300 }, async (_, i) => {
        const what = i % 3 ? { method: 'GET' } : { method: 'PUT', body };
        const { statusCode, body: answer } = await pool.request({ path: `/${i}`, ...what });
        return { statusCode, i, ...await answer.json() };
      }));
      report('right', answers.filter(({ statusCode, url, i, length }) =>
        statusCode === 200 && url === `/${i}` && length === (i % 3 ? 0 : body.length)).length);
      report('pids', [...new Set(answers.map(({ pid }) => pid))].sort(), workers.map((one) => one.process.pid).sort());
      await pool.close();
      const exits = workers.map((one) => happens(one, 'exit'));
      cluster.disconnect();
      report('exits', ...await Promise.all(exits));
    },
  });
  assert.equal(run.one('right'), 300);
  const [[seen, all]] = run.all('pids');
  assert.deepEqual(seen, all);
  assert.deepEqual(run.all('exits')[0], Array(3).fill([0, null]));
});

// On the stock module a connection that was on its way to the killed worker is answered never.
test('undici: with retries every request is answered although workers are killed', ours, async () => {
  const run = await play({
    worker,
    async primary({ cluster, report, happens, until }) {
      const { Agent, RetryAgent } = require('undici');
      const start = async () => {
        const one = cluster.fork();
        const [{ port }] = await happens(one, 'listening');
        return { one, port };
      };
      const running = [await start(), await start()];
      const [{ port }] = running;
      const agent = new RetryAgent(new Agent({ connections: 4 }), { maxRetries: 10, minTimeout: 1, maxTimeout: 10 });
      let asked = 0;
      let going = true;
      const answers = [];
      const client = async () => {
        while (going) {
          const url = `/${asked++}`;
          const { body } = await agent.request({ origin: `http://127.0.0.1:${port}`, path: url, method: 'GET' });
          answers.push((await body.json()).url === url);
        }
      };
      const clients = [client(), client(), client(), client()];
      for (let i = 0; i < 4; i++) {
        const before = answers.length;
        await until(() => answers.length >= before + 20, 'twenty answers');
        const { one } = running.shift();
        const gone = happens(one, 'exit');
        one.process.kill('SIGKILL');
        await gone;
        running.push(await start());
      }
      going = false;
      await Promise.all(clients);
      report('answers', asked, answers.length, answers.every(Boolean));
      await agent.close();
      cluster.disconnect();
    },
  });
  const [[asked, answered, right]] = run.all('answers');
  assert.equal(answered, asked);
  assert.ok(answered >= 80);
  assert.equal(right, true);
});

// Stock Node closes kept connections at once, also those whose next request is on its way.
test('undici: without retries no request on kept connections fails while all workers are replaced', ours, async () => {
  const run = await play({
    worker,
    async primary({ cluster, report, happens, until }) {
      const { Pool } = require('undici');
      const start = async () => {
        const one = cluster.fork();
        const [{ port }] = await happens(one, 'listening');
        return { one, port };
      };
      const running = [await start(), await start(), await start()];
      const [{ port }] = running;
      const pool = new Pool(`http://127.0.0.1:${port}`, { connections: 6 });
      const seen = new Set();
      const failures = [];
      let answered = 0;
      let going = true;
      const client = async () => {
        while (going) {
          try {
            const { body } = await pool.request({ path: '/', method: 'GET' });
            seen.add((await body.json()).pid);
            answered++;
          } catch (error) {
            failures.push(String(error));
          }
        }
      };
      const clients = Array.from({ length: 6 }, client);
      const twenty = () => {
        const before = answered;
        return until(() => answered >= before + 20, 'twenty answers');
      };
      for (let i = 0; i < 6; i++) {
        await twenty();
        const { one } = running.shift();
        running.push(await start());
        const gone = happens(one, 'exit');
        one.disconnect();
        report('exit', ...await gone);
      }
      await twenty();
      seen.clear();
      await until(() => seen.size > 0, 'an answer by the last ones');
      going = false;
      await Promise.all(clients);
      const last = running.map(({ one }) => one.process.pid);
      report('result', answered, failures, [...seen].every((pid) => last.includes(pid)));
      await pool.close();
      cluster.disconnect();
    },
  });
  const [[answered, failures, byTheLast]] = run.all('result');
  assert.deepEqual(failures, []);
  assert.ok(answered >= 140, `${answered} answered`);
  assert.equal(byTheLast, true);
  assert.deepEqual(run.all('exit'), Array(6).fill([0, null]));
});
