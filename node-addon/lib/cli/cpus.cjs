'use strict';

// How many CPUs this process may really use: those of its affinity, and no more than its control groups' quotas.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

function read(root, file) {
  try {
    return fs.readFileSync(path.join(root, file), 'utf8');
  } catch {
    return '';
  }
}

/** CPUs in a list such as `0-3,8`. */
function countList(list) {
  return list.trim().split(',').reduce((sum, range) => {
    const [first, last = first] = range.split('-').map(Number);
    return sum + (last - first + 1);
  }, 0);
}

// os.availableParallelism() also rounds a quota down in newer Nodes; the kernel's list is the affinity alone.
function affinity(root) {
  const list = /^Cpus_allowed_list:\s*([0-9,-]+)$/m.exec(read(root, 'proc/self/status'));
  const count = list === null ? NaN : countList(list[1]);
  return count >= 1 ? count : os.availableParallelism();
}

/** Where hierarchies are mounted: { v2: bool, controllers, root (of the mount, inside the hierarchy), point }. */
function mounts(root) {
  const found = [];
  for (const line of read(root, 'proc/self/mountinfo').split('\n')) {
    const [before, after] = line.split(' - ');
    if (after === undefined) continue;
    const [type, , superOptions = ''] = after.split(' ');
    if (type !== 'cgroup' && type !== 'cgroup2') continue;
    const fields = before.split(' ');
    found.push({ v2: type === 'cgroup2', controllers: superOptions.split(','), root: fields[3], point: fields[4] });
  }
  return found;
}

function quotaAt(root, v2, folder) {
  const file = (name) => read(root, path.join(folder, name)).trim();
  const [quota, period] = v2 ? file('cpu.max').split(/\s+/) : [file('cpu.cfs_quota_us'), file('cpu.cfs_period_us')];
  const cpus = Number(quota) / Number(period);
  return quota !== '' && cpus > 0 && Number.isFinite(cpus) ? cpus : Infinity;
}

/** The least quota of this process's groups and their ancestors, in CPUs; Infinity where there is none. */
function quota(root) {
  const mounted = mounts(root);
  let least = Infinity;
  for (const line of read(root, 'proc/self/cgroup').split('\n')) {
    const [, controllers, group] = /^[0-9]+:([^:]*):(.*)$/.exec(line) ?? [];
    if (group === undefined) continue;
    const v2 = controllers === '';
    if (!v2 && !controllers.split(',').includes('cpu')) continue;
    const mount = mounted.find((m) => m.v2 === v2 && (v2 || m.controllers.includes('cpu')));
    if (mount === undefined) continue;
    // In a container the mount may begin at our own group, or show a path that lies outside of it.
    const inside = mount.root !== '/' && group.startsWith(mount.root) ? group.slice(mount.root.length) : group;
    for (let at = path.join('/', inside); ; at = path.dirname(at)) {
      least = Math.min(least, quotaAt(root, v2, path.join(mount.point, at)));
      if (at === '/') break;
    }
  }
  return least;
}

/** { count, why }. `root` is for tests. */
function usableCpus(root = '/') {
  const allowed = affinity(root);
  const limit = quota(root);
  const count = Math.min(allowed, Math.max(1, Math.ceil(limit)));
  const cpus = `${allowed} CPU${allowed === 1 ? '' : 's'} by affinity`;
  const why = limit === Infinity ? `${cpus}, no cgroup quota` :
    `${cpus}, cgroup quota ${Number(limit.toFixed(2))} rounded up`;
  return { count, why };
}

module.exports = { usableCpus };
