import cluster from './index.cjs';

export default cluster;

// The public names of node:cluster in both roles, so that one import statement suits the primary and its workers:
// a name that this role does not have is undefined here, where node:cluster itself would be a SyntaxError.
// They are values of now, as node:cluster's own named exports are; what changes later is seen on the default.
export const {
  SCHED_LEAST_LOADED,
  SCHED_NONE,
  SCHED_RR,
  SCHED_SOURCE_HASH,
  Worker,
  disconnect,
  fork,
  isMaster,
  isPrimary,
  isWorker,
  ready,
  recycle,
  reload,
  rollback,
  scale,
  schedulingPolicy,
  settings,
  setupMaster,
  setupPrimary,
  stats,
  worker,
  workers,
} = cluster;
