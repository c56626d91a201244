package devs3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone/gofakes3"
)

// store keeps objects as files: data/BUCKET/KEY, with what a file cannot say beside it in meta/. Everything goes through
// an os.Root, so that neither a key nor a link leads out of the folder.
type store struct {
	root *os.Root
	// mu makes "create the folders, then move the file in" and "remove the file, then its empty folders" exclude each
	// other, and keeps a file and its description together for who reads both. Contents are read and written outside of it.
	mu   sync.RWMutex
	temp atomic.Int64
}

// Sub-folders of the store's folder.
const (
	dataDir    = "data"
	metaDir    = "meta"
	tempDir    = "tmp"
	uploadsDir = "uploads"
)

// description is what is known of an object beside its contents. It counts only while the file is the one described.
type description struct {
	Size    int64             `json:"size"`
	ModTime time.Time         `json:"mtime"`
	Hash    string            `json:"hash"` // hex
	Headers map[string]string `json:"headers,omitempty"`
	Parts   []int64           `json:"parts,omitempty"`
}

// openStore opens the folder; a guest leaves what is under way there alone.
func openStore(dir string, guest bool) (*store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the S3 folder: %w", err)
	}
	// Uploads that were under way when the last server ended cannot be continued: their ids are gone.
	for _, left := range []string{tempDir, uploadsDir} {
		if guest {
			break
		}
		err = errors.Join(err, root.RemoveAll(left))
	}
	for _, sub := range []string{dataDir, metaDir, tempDir, uploadsDir} {
		err = errors.Join(err, root.MkdirAll(sub, 0o700))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the S3 folder: %w", err), root.Close())
	}
	return &store{root: root}, nil
}

func (s *store) close() error { return s.root.Close() }

// tempName is a file that no other has, be it another process's.
func (s *store) tempName() string {
	return path.Join(tempDir, fmt.Sprintf("%d-%d", os.Getpid(), s.temp.Add(1)))
}

// bucketPath is the folder of a bucket whose name is valid.
func bucketPath(bucket string) (string, error) {
	if err := gofakes3.ValidateBucketName(bucket); err != nil {
		return "", err
	}
	return path.Join(dataDir, bucket), nil
}

func metaPath(bucket, key string) string {
	sum := sha256.Sum256([]byte(key))
	return path.Join(metaDir, bucket, hex.EncodeToString(sum[:])+".json")
}

func (s *store) ListBuckets(context.Context) ([]gofakes3.BucketInfo, error) {
	entries, err := fs.ReadDir(s.root.FS(), dataDir)
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	var out []gofakes3.BucketInfo
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && info.IsDir() && gofakes3.ValidateBucketName(entry.Name()) == nil {
			out = append(out, gofakes3.BucketInfo{Name: entry.Name(), CreationDate: gofakes3.NewContentTime(info.ModTime())})
		}
	}
	return out, nil
}

func (s *store) BucketExists(_ context.Context, bucket string) (bool, error) {
	folder, err := bucketPath(bucket)
	if err != nil {
		return false, err
	}
	info, err := s.root.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

func (s *store) CreateBucket(_ context.Context, bucket string) error {
	folder, err := bucketPath(bucket)
	if err != nil {
		return err
	}
	err = s.root.Mkdir(folder, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // there is one owner here, and to an owner S3 answers so in us-east-1
	}
	return err
}

func (s *store) DeleteBucket(ctx context.Context, bucket string) error {
	if err := s.mustExist(ctx, bucket); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := fs.ReadDir(s.root.FS(), path.Join(dataDir, bucket))
	if err != nil {
		return fmt.Errorf("delete bucket %s: %w", bucket, err)
	}
	if len(entries) > 0 {
		return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, bucket)
	}
	return errors.Join(s.root.Remove(path.Join(dataDir, bucket)), s.root.RemoveAll(path.Join(metaDir, bucket)))
}

func (s *store) mustExist(ctx context.Context, bucket string) error {
	exists, err := s.BucketExists(ctx, bucket)
	if err == nil && !exists {
		return gofakes3.BucketNotFound(bucket)
	}
	return err
}

func (s *store) ListBucket(ctx context.Context, bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if err := s.mustExist(ctx, bucket); err != nil {
		return nil, err
	}
	var wanted gofakes3.Prefix
	if prefix != nil {
		wanted = *prefix
	}
	wanted.HasDelimiter = wanted.Delimiter != "" // an empty one is sent by s3fs and means none
	keys, err := s.keys(ctx, bucket, wanted.Prefix)
	if err != nil {
		return nil, err
	}
	list := gofakes3.NewObjectList()
	var count int64
	common := "" // the prefix last added, which takes all keys below it
	for i, key := range keys {
		var match gofakes3.PrefixMatch
		if (page.HasMarker && key <= page.Marker) || !wanted.Match(key, &match) {
			continue
		}
		if match.CommonPrefix && match.MatchedPart == common {
			list.NextMarker = key // the next page begins after all of them
			continue
		}
		if page.MaxKeys > 0 && count == page.MaxKeys {
			list.IsTruncated = true
			return list, nil
		}
		count++
		list.NextMarker = keys[i]
		if match.CommonPrefix {
			common = match.MatchedPart
			list.AddPrefix(common)
			continue
		}
		d, err := s.describe(bucket, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted in between
		} else if err != nil {
			return nil, err
		}
		list.Add(&gofakes3.Content{Key: key, LastModified: gofakes3.NewContentTime(d.ModTime), ETag: `"` + d.Hash + `"`, Size: d.Size})
	}
	list.NextMarker = ""
	return list, nil
}

// keys lists a bucket's keys in S3's order, by bytes; only folders that can hold the prefix are read.
func (s *store) keys(ctx context.Context, bucket, prefix string) ([]string, error) {
	folder := path.Join(dataDir, bucket)
	start := folder
	if at := strings.LastIndexByte(prefix, '/'); at >= 0 {
		below, err := objectPath(bucket, prefix[:at+1])
		if err != nil {
			return nil, nil //nolint:nilerr // no file has such a key, which is no fault
		}
		start = below
	}
	var keys []string
	err := fs.WalkDir(s.root.FS(), start, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if name == folder {
			return nil
		}
		key := keyOf(strings.TrimPrefix(name, folder+"/"))
		if entry.IsDir() { // an object if it was stored as one
			key += "/"
		}
		if strings.HasPrefix(key, prefix) && (entry.Type().IsRegular() || entry.IsDir() && s.described(bucket, key)) {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", bucket, err)
	}
	slices.Sort(keys)
	return keys, nil
}

// described tells whether there is a description of a key.
func (s *store) described(bucket, key string) bool {
	_, err := s.root.Stat(metaPath(bucket, key))
	return err == nil
}

// describe reads what is known of an object.
func (s *store) describe(bucket, key string) (description, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.describeLocked(bucket, key)
}

// describeLocked is describe for who holds mu. A file that a person put there or changed gets a hash of size and time. A
// folder is an object if it was stored as one.
func (s *store) describeLocked(bucket, key string) (description, error) {
	name, err := objectPath(bucket, key)
	if err != nil {
		return description{}, err
	}
	info, err := s.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) || (err == nil && info.IsDir() != strings.HasSuffix(key, "/")) {
		return description{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	if err != nil {
		return description{}, fmt.Errorf("look at %s/%s: %w", bucket, key, err)
	}
	var d description
	if text, err := s.root.ReadFile(metaPath(bucket, key)); err == nil && json.Unmarshal(text, &d) == nil &&
		(info.IsDir() || d.Size == info.Size() && d.ModTime.Equal(info.ModTime())) {
		return d, nil
	}
	if info.IsDir() {
		return description{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	sum := md5.Sum(fmt.Appendf(nil, "%d %d", info.Size(), info.ModTime().UnixNano()))
	return description{Size: info.Size(), ModTime: info.ModTime(), Hash: hex.EncodeToString(sum[:])}, nil
}

func (s *store) HeadObject(ctx context.Context, bucket, key string) (*gofakes3.Object, error) {
	if err := s.mustExist(ctx, bucket); err != nil {
		return nil, err
	}
	d, err := s.describe(bucket, key)
	if err != nil {
		return nil, notFound(key, err)
	}
	return d.object(bucket, key)
}

// notFound is what S3 calls an object that does not exist.
func notFound(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return gofakes3.KeyNotFound(key)
	}
	return err
}

// object is the described object, without its contents.
func (d description) object(bucket, key string) (*gofakes3.Object, error) {
	hash, err := hex.DecodeString(d.Hash)
	if err != nil {
		return nil, fmt.Errorf("look at %s/%s: %w", bucket, key, err)
	}
	headers := map[string]string{}
	for name, value := range d.Headers {
		headers[name] = value
	}
	headers["Last-Modified"] = d.ModTime.UTC().Format(http.TimeFormat)
	return &gofakes3.Object{Name: key, Metadata: headers, Size: d.Size, Hash: hash, PartSizes: d.Parts, Contents: io.NopCloser(bytes.NewReader(nil))}, nil
}

func (s *store) GetObject(ctx context.Context, bucket, key string, wanted *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	if err := s.mustExist(ctx, bucket); err != nil {
		return nil, err
	}
	d, file, err := s.open(bucket, key)
	if err != nil {
		return nil, notFound(key, err)
	}
	object, err := d.object(bucket, key)
	if err != nil || strings.HasSuffix(key, "/") {
		return object, errors.Join(err, file.Close())
	}
	section := io.NewSectionReader(file, 0, object.Size)
	if object.Range, err = wanted.Range(object.Size); err != nil {
		_ = file.Close()
		return nil, err
	}
	if object.Range != nil {
		section = io.NewSectionReader(file, object.Range.Start, object.Range.Length)
	}
	object.Contents = struct {
		io.Reader
		io.Closer
	}{section, file}
	return object, nil
}

// open opens an object's file and reads the description that belongs to it.
func (s *store) open(bucket, key string) (description, *os.File, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, err := s.describeLocked(bucket, key)
	if err != nil {
		return d, nil, err
	}
	name, err := objectPath(bucket, key)
	if err != nil {
		return d, nil, err
	}
	file, err := s.root.Open(name)
	if err != nil {
		return d, nil, fmt.Errorf("read %s/%s: %w", bucket, key, err)
	}
	return d, file, nil
}

func (s *store) PutObject(ctx context.Context, bucket, key string, headers map[string]string, input io.Reader, size int64) (gofakes3.PutObjectResult, error) {
	var none gofakes3.PutObjectResult
	if err := s.mustExist(ctx, bucket); err != nil {
		return none, err
	}
	name, err := objectPath(bucket, key)
	if err != nil {
		return none, err
	}
	if strings.HasSuffix(key, "/") {
		if n, err := io.Copy(io.Discard, input); err != nil {
			return none, err
		} else if n > 0 {
			return none, gofakes3.ErrorMessagef(gofakes3.ErrInvalidArgument, "the key %q ends in / and is a folder here: it can have no contents", key)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.makeFolders(bucket, key, name); err != nil {
			return none, err
		}
		empty := md5.Sum(nil)
		temp := s.tempName()
		return none, s.writeDescription(bucket, key, temp, description{ModTime: time.Now(), Hash: hex.EncodeToString(empty[:]), Headers: headers})
	}
	temp, hash, written, err := s.receive(input)
	if err != nil {
		return none, err
	}
	if size >= 0 && written != size {
		s.discard(temp)
		return none, gofakes3.ErrIncompleteBody
	}
	return none, s.install(bucket, key, temp, description{Hash: hex.EncodeToString(hash), Headers: headers})
}

// receive writes a body to a temporary file, which it removes when that fails.
func (s *store) receive(input io.Reader) (name string, hash []byte, size int64, err error) {
	name = s.tempName()
	file, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", nil, 0, fmt.Errorf("store object: %w", err)
	}
	sum := md5.New()
	size, err = io.Copy(io.MultiWriter(file, sum), input)
	if err = errors.Join(err, file.Close()); err != nil {
		s.discard(name)
		return "", nil, 0, unjoin(err)
	}
	return name, sum.Sum(nil), size, nil
}

// discard removes a temporary file. That this can fail too is not worth hiding the first error for: the next start clears
// the folder.
func (s *store) discard(temp string) { _ = s.root.Remove(temp) }

// unjoin keeps a lone error as it is, since the library looks at its type.
func unjoin(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok && len(many.Unwrap()) == 1 {
		return many.Unwrap()[0]
	}
	return err
}

// install moves a temporary file to its key and writes its description.
func (s *store) install(bucket, key, temp string, d description) error {
	name, err := objectPath(bucket, key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.makeFolders(bucket, key, path.Dir(name)); err != nil {
		s.discard(temp)
		return err
	}
	if info, err := s.root.Stat(name); err == nil && info.IsDir() {
		s.discard(temp)
		return conflict(key)
	}
	info, err := s.root.Stat(temp)
	if err != nil {
		return fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	d.Size, d.ModTime = info.Size(), info.ModTime()
	// The description comes first: without its file it does not count, while a file without it would lose its headers.
	if err := s.writeDescription(bucket, key, temp+".json", d); err != nil {
		return err
	}
	if err := s.root.Rename(temp, name); err != nil {
		return fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	return nil
}

// writeDescription puts a description into its place, by way of a temporary file.
func (s *store) writeDescription(bucket, key, temp string, d description) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	meta := metaPath(bucket, key)
	err = errors.Join(s.root.MkdirAll(path.Dir(meta), 0o700), s.root.WriteFile(temp, text, 0o600))
	if err == nil {
		err = s.root.Rename(temp, meta)
	}
	if err != nil {
		return fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	return nil
}

func (s *store) makeFolders(bucket, key, folder string) error {
	if err := s.root.MkdirAll(folder, 0o700); isNotDir(err) || errors.Is(err, fs.ErrExist) {
		return conflict(key)
	} else if err != nil {
		return fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	return nil
}

func conflict(key string) error {
	return gofakes3.ErrorMessagef(gofakes3.ErrInvalidArgument,
		"the key %q cannot be stored as a file: it is the folder of another key, or another key is its folder", key)
}

func (s *store) CopyObject(ctx context.Context, fromBucket, fromKey, toBucket, toKey string, headers map[string]string) (gofakes3.CopyObjectResult, error) {
	var result gofakes3.CopyObjectResult
	object, err := s.GetObject(ctx, fromBucket, fromKey, nil)
	if err != nil {
		return result, err
	}
	defer object.Contents.Close()
	if _, err := s.PutObject(ctx, toBucket, toKey, headers, object.Contents, object.Size); err != nil {
		return result, err
	}
	d, err := s.describe(toBucket, toKey)
	if err != nil {
		return result, fmt.Errorf("copy to %s/%s: %w", toBucket, toKey, err)
	}
	return gofakes3.CopyObjectResult{ETag: `"` + d.Hash + `"`, LastModified: gofakes3.NewContentTime(d.ModTime)}, nil
}

func (s *store) DeleteObject(ctx context.Context, bucket, key string) (gofakes3.ObjectDeleteResult, error) {
	var result gofakes3.ObjectDeleteResult
	if err := s.mustExist(ctx, bucket); err != nil {
		return result, err
	}
	name, err := objectPath(bucket, key)
	if err != nil {
		return result, nil // such an object does not exist, which for a deletion is success
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.root.Stat(name)
	if err != nil || info.IsDir() != strings.HasSuffix(key, "/") {
		return result, nil // as above
	}
	if !info.IsDir() {
		if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return result, fmt.Errorf("delete %s/%s: %w", bucket, key, err)
		}
		name = path.Dir(name)
	}
	if err := s.root.Remove(metaPath(bucket, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result, fmt.Errorf("delete %s/%s: %w", bucket, key, err)
	}
	for folder := path.Join(dataDir, bucket); name != folder; name = path.Dir(name) {
		if s.described(bucket, keyOf(strings.TrimPrefix(name, folder+"/"))+"/") {
			break // it is an object itself
		}
		if s.root.Remove(name) != nil { // not empty
			break
		}
	}
	return result, nil
}

func (s *store) DeleteMulti(ctx context.Context, bucket string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	var result gofakes3.MultiDeleteResult
	for _, key := range keys {
		if _, err := s.DeleteObject(ctx, bucket, key); err != nil {
			failure := gofakes3.ErrorResultFromError(err)
			failure.Key = key
			result.Error = append(result.Error, failure)
			continue
		}
		result.Deleted = append(result.Deleted, gofakes3.ObjectID{Key: key})
	}
	return result, nil
}
