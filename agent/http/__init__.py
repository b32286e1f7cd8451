"""This folder is HTTP/1.1 on asyncio: h11 says what the bytes mean, and what is here moves them, within bounds.

tls         the contexts of clients and listening sockets
addresses   names to addresses on a worker, and the first address that answers
exchange    a client's connection: one request, one answer, again
client      which connection a request takes; proxies, and how long anything may last
asked       what a request of somebody else means
answering   a server's connection: requests in order, each with its answer
door        who is in: every connection from when it was accepted
"""
