"""The secrets engine: pure logic over a storage and a token service."""
