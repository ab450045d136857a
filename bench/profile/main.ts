/**
 * `npm run profile -- [split|merge|compact] [--docs N] [--size BYTES] [--out DIR]`: one rewrite under each profiler, and where to
 * find what they say.
 *
 * Clinic's doctor and flame see the main thread only, so that they are given a rewrite without workers. Node's own profiler writes a
 * file for every thread.
 */
