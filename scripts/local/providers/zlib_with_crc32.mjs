// node:zlib, with the crc32 (IEEE 802.3) of newer Nodes.

export * from 'node:zlib'

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1
  return byte
})

export function crc32(data, value = 0) {
  let crc = ~value
  for (const byte of Buffer.from(data)) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8)
  return ~crc >>> 0
}
