"""HTTP as bytes on a socket, for clients that do what no library does."""

import socket
from http.client import HTTPResponse


def post(data: bytes, *headers: str) -> bytes:
    """A whole request; sent in one piece, its body is there as soon as its head."""
    head = ["POST /v1/classify HTTP/1.1", "Host: x", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + data


def read(sock: socket.socket) -> bytes:
    """All that the server sends until it ends the connection."""
    received = b""
    try:
        while chunk := sock.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def answer(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    response = HTTPResponse(sock)
    response.begin()
    return response.status, response.read()
