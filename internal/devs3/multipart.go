package devs3

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/rclone/gofakes3"
)

// Large objects come in parts. Each is a file of its own under uploads/ID until the upload is complete, so that none is
// ever held in memory.

// partPath is a part's file; its hash stands beside it, in a file that ends in .hash.
func partPath(id gofakes3.UploadID, number int) string {
	return path.Join(uploadsDir, string(id), fmt.Sprintf("%05d", number))
}

func (s *store) CreateMultipartUpload(ctx context.Context, bucket, key string, headers map[string]string) (gofakes3.UploadID, error) {
	if err := s.mustExist(ctx, bucket); err != nil {
		return "", err
	}
	if _, err := objectPath(bucket, key); err != nil {
		return "", err
	}
	id := uuid.NewString()
	text, err := json.Marshal(headers)
	if err == nil {
		err = s.root.Mkdir(path.Join(uploadsDir, id), 0o700)
	}
	if err == nil {
		err = s.root.WriteFile(path.Join(uploadsDir, id, "headers"), text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("begin upload of %s/%s: %w", bucket, key, err)
	}
	return gofakes3.UploadID(id), nil
}

func (s *store) UploadPart(_ context.Context, bucket, key string, id gofakes3.UploadID, number int, length int64, body io.Reader) (string, error) {
	temp, hash, size, err := s.receive(body)
	if err != nil {
		return "", err
	}
	if size != length {
		s.discard(temp)
		return "", gofakes3.ErrIncompleteBody
	}
	etag := `"` + hex.EncodeToString(hash) + `"`
	err = s.root.WriteFile(partPath(id, number)+".hash", []byte(etag), 0o600)
	if err == nil {
		err = s.root.Rename(temp, partPath(id, number))
	}
	if errors.Is(err, fs.ErrNotExist) {
		s.discard(temp)
		return "", gofakes3.ErrNoSuchUpload
	}
	if err != nil {
		s.discard(temp)
		return "", fmt.Errorf("store part %d of %s/%s: %w", number, bucket, key, err)
	}
	return etag, nil
}

func (s *store) CompleteMultipartUpload(_ context.Context, bucket, key string, id gofakes3.UploadID, input *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	folder := path.Join(uploadsDir, string(id))
	text, err := s.root.ReadFile(path.Join(folder, "headers"))
	if err != nil {
		return "", "", gofakes3.ErrNoSuchUpload
	}
	var d description
	if err := json.Unmarshal(text, &d.Headers); err != nil {
		return "", "", fmt.Errorf("complete upload of %s/%s: %w", bucket, key, err)
	}
	temp := s.tempName()
	file, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", "", fmt.Errorf("complete upload of %s/%s: %w", bucket, key, err)
	}
	whole := md5.New() // of the parts' hashes, as S3 does it
	last := 0
	for _, part := range input.Parts {
		if part.PartNumber <= last {
			err = gofakes3.ErrInvalidPartOrder
			break
		}
		last = part.PartNumber
		var size int64
		if size, err = s.appendPart(file, whole, id, part); err != nil {
			break
		}
		d.Parts = append(d.Parts, size)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		s.discard(temp)
		return "", "", unjoin(err)
	}
	d.Hash = hex.EncodeToString(whole.Sum(nil))
	if err := s.install(bucket, key, temp, d); err != nil {
		return "", "", err
	}
	if err := s.root.RemoveAll(folder); err != nil {
		return "", "", fmt.Errorf("complete upload of %s/%s: %w", bucket, key, err)
	}
	return "", `"` + d.Hash + `"`, nil
}

func (s *store) appendPart(to *os.File, whole io.Writer, id gofakes3.UploadID, part gofakes3.CompletedPart) (int64, error) {
	etag, err := s.root.ReadFile(partPath(id, part.PartNumber) + ".hash")
	if err != nil || strings.Trim(string(etag), `"`) != strings.Trim(part.ETag, `"`) {
		return 0, gofakes3.ErrInvalidPart
	}
	hash, err := hex.DecodeString(strings.Trim(string(etag), `"`))
	if err != nil {
		return 0, gofakes3.ErrInvalidPart
	}
	from, err := s.root.Open(partPath(id, part.PartNumber))
	if err != nil {
		return 0, gofakes3.ErrInvalidPart
	}
	defer from.Close()
	if _, err := whole.Write(hash); err != nil {
		return 0, err
	}
	return io.Copy(to, from)
}

func (s *store) AbortMultipartUpload(_ context.Context, _, _ string, id gofakes3.UploadID) error {
	return s.root.RemoveAll(path.Join(uploadsDir, string(id)))
}

func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

var (
	_ gofakes3.Backend              = (*store)(nil)
	_ gofakes3.MultipartBackend     = (*store)(nil)
	_ gofakes3.ObjectTaggingBackend = (*store)(nil)
)
