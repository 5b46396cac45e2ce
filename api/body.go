package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
)

// readTimeout bounds the wait for more of a request's body. How long all of it
// takes is up to the client.
const readTimeout = 30 * time.Second

// boundBody bounds the wait for the body from the start. The HTTP server itself
// reads what a handler leaves of it, without a bound of its own, and lifts the
// deadline when it has all of it.
func boundBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		// Without a body, the server already listens for the end of the connection.
		if r := c.Request(); r.Body != nil && r.Body != http.NoBody {
			awaitMore(http.NewResponseController(c.Response()))
		}
		return next(c)
	}
}

// awaitMore gives the client time to send more. Not every connection has
// deadlines; then a stuck client is left to the network.
func awaitMore(rc *http.ResponseController) { _ = rc.SetReadDeadline(time.Now().Add(readTimeout)) }

// pacedBody is a body that is waited for as long as it keeps coming. The deadline
// is the connection's, so it must not outlive the body: the request may wait for
// hours.
type pacedBody struct {
	body io.Reader
	rc   *http.ResponseController
}

func (b pacedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	switch {
	case err == nil:
		awaitMore(b.rc)
	case errors.Is(err, io.EOF):
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// brokenOff is the error for a body of which err is all that came.
func brokenOff(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(http.StatusRequestTimeout, codeInvalidRequest, "Request timeout: no more of the body came for %s", readTimeout)
	}
	return refuse(http.StatusBadRequest, codeParse, "Parse error: the body broke off")
}
