'use strict';

// Workers are replaced one after the other under load, the new one first: what becomes of the requests, and how long the old
// ones need to leave. Usage: rolling.cjs CONTENDER REPLACEMENTS REQUESTS KEPT FRESH PAUSE
//
// KEPT clients use their connections again, FRESH ones open one for each request; each asks PAUSE ms after each answer.

const { crowd, sum } = require('./client.cjs');
const { grouped, result } = require('./result.cjs');
const { CONTENDERS, Server } = require('./server.cjs');

const WORKERS = 2;
const SLOWEST = 2000;
// Nobody waits for longer; the worker is left to itself.
const PATIENCE = 4000;

async function roll(server, times, drains) {
  const [newest] = [...server.workers.keys()].reverse();
  for (let id = 1; id <= times; id++) {
    server.command(`replace ${id}`);
    const { at: begun } = await server.event('listening', (event) => event.id === newest + id);
    const exit = await server.event('exit', (event) => event.id === id, PATIENCE).catch(() => undefined);
    if (exit && exit.code !== 0) throw new Error(`worker ${id} ended with ${exit.signal || exit.code}`);
    drains.push(exit ? exit.at - begun : PATIENCE);
  }
}

async function main([contender, ...numbers]) {
  const [replacements, requests, kept, fresh, pause] = numbers.map(Number);
  const { name } = CONTENDERS[contender];
  const server = new Server(contender, { workers: WORKERS, env: { FAULTS_HTTP: '1' } });
  try {
    const port = await server.start(WORKERS);
    if (port === undefined) {
      console.log(`${name}: not available here`);
      return true;
    }
    const counts = {};
    const drains = [];
    let rolled = false;
    const load = crowd(port, { kept, fresh, pause }, counts, () => rolled && sum(counts).all >= requests);
    await roll(server, replacements, drains).finally(() => { rolled = true; });
    await load;
    await server.stop();

    const { all, failed } = sum(counts);
    const ours = contender !== 'stock';
    const row = `rolling replacements in Node, ${fresh === 0 ? `${kept} keep-alive clients` : 'keep-alive and not'}`;
    const { refused, cut, hung, wrong } = counts;
    console.log(`  ${grouped(counts.reused)} on connections used before; refused ${refused}, cut ${cut}, hung ${hung}, wrong ${wrong}`);
    // A connection that is opened again was closed; each has been with a worker that left in each second replacement.
    const closed = all - counts.reused - kept - fresh;
    const stayed = 100 * (1 - Math.max(0, closed) / (replacements * kept / WORKERS));
    const isNoticed = fresh === 0 && ours && stayed < 99;
    const longest = Math.round(Math.max(...drains));
    const told = `${grouped(failed)} of ${grouped(all)} in ${replacements} replacements`;
    const noneFailed = result('rolling', `${row}: requests that failed`, name, told, ours ? '0' : '', ours ? failed === 0 : null);
    if (fresh > 0) return noneFailed;
    result('rolling', `${row}: idle connections that were not closed`, name, `${stayed.toFixed(1)} %`, ours ? '>= 99 %' : '', ours ? !isNoticed : null);
    return result('rolling', `${row}: the longest that an old worker took to leave`, name,
      longest < PATIENCE ? `${longest} ms` : `over ${PATIENCE} ms`, ours ? `<= ${SLOWEST} ms` : '', ours ? longest <= SLOWEST : null) && noneFailed && !isNoticed;
  } finally {
    await server.kill();
  }
}

main(process.argv.slice(2)).then((isKept) => {
  process.exitCode = isKept ? 0 : 1;
});
