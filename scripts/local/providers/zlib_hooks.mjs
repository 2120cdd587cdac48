// Module hooks that give packages zlib with crc32, which Node has had since 20.15.

const SHIM = new URL('zlib_with_crc32.mjs', import.meta.url).href

export function resolve(specifier, context, next) {
  const isZlib = specifier === 'node:zlib' || specifier === 'zlib'
  return isZlib && context.parentURL !== SHIM ? { url: SHIM, shortCircuit: true } : next(specifier, context)
}
