'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const { play } = require('../support/index.cjs');

test('prom-client: its registry of the primary adds up what the workers counted', async () => {
  const run = await play({
    async primary({ cluster, report, happens, request, until }) {
      const { AggregatorRegistry } = require('prom-client');
      const registry = new AggregatorRegistry();
      const workers = [1, 2, 3].map(() => cluster.fork());
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));

      // Every request has a connection of its own, so that each worker counts some.
      const served = new Map();
      let asked = 0;
      await until(async () => {
        const { body } = await request(port);
        asked++;
        served.set(Number(body), (served.get(Number(body)) ?? 0) + 1);
        return asked >= 20 && served.size === 3;
      }, 'answers by all workers');

      const number = (text, line) => Number(text.match(new RegExp(`^${line} ([0-9.e+]+)$`, 'm'))?.[1]);
      const text = await registry.clusterMetrics();
      report('all', number(text, 'requests_total\\{method="GET"\\}') - asked, number(text, 'workers_up'),
        number(text, 'seconds_count') - asked);

      // With one of them gone the sum is that of the others.
      const [leaving] = workers;
      const gone = happens(leaving, 'exit');
      leaving.disconnect();
      await gone;
      const less = await registry.clusterMetrics();
      report('less', number(less, 'requests_total\\{method="GET"\\}') - asked + served.get(leaving.process.pid),
        number(less, 'workers_up'));
      cluster.disconnect();
    },
    worker() {
      const http = require('node:http');
      const { AggregatorRegistry, Counter, Gauge, Histogram } = require('prom-client');
      new AggregatorRegistry(); // Answers the primary when it asks.
      const requests = new Counter({ name: 'requests_total', help: 'Requests.', labelNames: ['method'] });
      const seconds = new Histogram({ name: 'seconds', help: 'Durations.' });
      new Gauge({ name: 'workers_up', help: 'Workers.' }).set(1);
      http.createServer((request, response) => {
        const stop = seconds.startTimer();
        requests.inc({ method: request.method });
        stop();
        response.end(String(process.pid));
      }).listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.all('all'), [[0, 3, 0]]);
  assert.deepEqual(run.all('less'), [[0, 2]]);
});
