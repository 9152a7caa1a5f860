//! `wasi:filesystem`: descriptors over the run's files.

use super::streams::{InputStream, IoError, OutputStream};
use super::surroundings::datetime;
use super::wasi::filesystem::{preopens, types};
use super::{Context, over};
use crate::files::path::Found;
use crate::files::{Answer, Content, Data, Errno, Files, NodeId, Refusal};
use std::borrow::Cow;
use types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime::component::{Resource, ResourceTableError};

/// Bytes that one call reads, at most.
const MOST: u64 = 1 << 20;

/// An open file or folder.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    id: NodeId,
    flags: DescriptorFlags,
}

/// A folder being listed: the number of the entry that comes next.
#[derive(Debug)]
pub struct Listing(NodeId, u64);

impl From<ResourceTableError> for Refusal {
    /// A handle that is none, or more than may be open.
    fn from(_: ResourceTableError) -> Self {
        Errno::TooManyOpen.into()
    }
}

fn code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::Access | Errno::NotCapable => ErrorCode::Access,
        Errno::BadDescriptor => ErrorCode::BadDescriptor,
        Errno::Exists => ErrorCode::Exist,
        Errno::Fault | Errno::Invalid | Errno::NoSystemCall | Errno::NotSocket => ErrorCode::Invalid,
        Errno::TooBig => ErrorCode::FileTooLarge,
        Errno::IllegalBytes => ErrorCode::IllegalByteSequence,
        Errno::Interrupted => ErrorCode::Interrupted,
        Errno::Io => ErrorCode::Io,
        Errno::IsFolder => ErrorCode::IsDirectory,
        Errno::Loop => ErrorCode::Loop,
        Errno::TooManyOpen => ErrorCode::Quota,
        Errno::NameTooLong => ErrorCode::NameTooLong,
        Errno::NoEntry => ErrorCode::NoEntry,
        Errno::NoSpace => ErrorCode::InsufficientSpace,
        Errno::NotFolder => ErrorCode::NotDirectory,
        Errno::NotEmpty => ErrorCode::NotEmpty,
        Errno::NotSupported => ErrorCode::Unsupported,
        Errno::Overflow => ErrorCode::Overflow,
        Errno::NotPermitted => ErrorCode::NotPermitted,
        Errno::ReadOnly => ErrorCode::ReadOnly,
        Errno::NotSeekable => ErrorCode::InvalidSeek,
    }
}

fn type_of(files: &Files, id: NodeId) -> DescriptorType {
    match files.content(id) {
        Content::File(_) => DescriptorType::RegularFile,
        Content::Folder(_) => DescriptorType::Directory,
        Content::Link(_) => DescriptorType::SymbolicLink,
    }
}

fn stat_of(files: &Files, id: NodeId) -> DescriptorStat {
    let stat = files.stat(id);
    DescriptorStat {
        type_: type_of(files, id),
        link_count: u64::from(stat.links),
        size: stat.size,
        data_access_timestamp: Some(datetime(stat.accessed)),
        data_modification_timestamp: Some(datetime(stat.modified)),
        status_change_timestamp: Some(datetime(stat.modified)),
    }
}

fn hash_of(files: &Files, id: NodeId) -> MetadataHashValue {
    MetadataHashValue { lower: files.stat(id).serial, upper: 0 }
}

impl Context {
    fn descriptor(&self, of: &Resource<Descriptor>) -> Answer<Descriptor> {
        Ok(self.resources.get(of).copied().map_err(|_| Errno::BadDescriptor)?)
    }

    /// The descriptor's file, open for what is asked.
    fn file_of(&self, of: &Resource<Descriptor>, flag: DescriptorFlags) -> Answer<NodeId> {
        let descriptor = self.descriptor(of)?;
        self.files.file(descriptor.id)?;
        if descriptor.flags.contains(flag) { Ok(descriptor.id) } else { Err(Errno::BadDescriptor.into()) }
    }

    fn find_at(&self, base: &Resource<Descriptor>, flags: PathFlags, path: &str) -> Answer<Found> {
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        Ok(self.files.find(self.descriptor(base)?.id, path.as_bytes(), follow)?)
    }

    fn time(&self, time: NewTimestamp) -> Option<u64> {
        match time {
            NewTimestamp::NoChange => None,
            NewTimestamp::Now => Some(self.wall_clock()),
            NewTimestamp::Timestamp(at) => {
                Some(at.seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(at.nanoseconds)))
            }
        }
    }

    fn opened(&mut self, id: NodeId, flags: DescriptorFlags) -> Answer<Resource<Descriptor>> {
        let descriptor = self.resources.push(Descriptor { id, flags })?;
        self.files.open(id);
        Ok(descriptor)
    }

    fn streamed(&mut self, stream: OutputStream, id: NodeId) -> Answer<Resource<OutputStream>> {
        let stream = self.resources.push(stream)?;
        self.files.open(id);
        Ok(stream)
    }
}

impl preopens::Host for Context {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        let given = self.given.clone();
        let open = |(name, id)| -> wasmtime::Result<_> {
            let descriptor = self.resources.push(Descriptor { id, flags })?;
            self.files.open(id);
            Ok((descriptor, Cow::into_owned(name)))
        };
        given.into_iter().map(open).collect()
    }
}

impl types::Host for Context {
    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(Some(code(self.resources.get(&error)?.0)))
    }

    fn convert_error_code(&mut self, refusal: Refusal) -> wasmtime::Result<ErrorCode> {
        match refusal {
            Refusal::Errno(errno) => Ok(code(errno)),
            Refusal::Over(end) => Err(over(self, end)),
        }
    }
}

impl types::HostDirectoryEntryStream for Context {
    fn read_directory_entry(&mut self, listing: Resource<Listing>) -> Answer<Option<DirectoryEntry>> {
        let Listing(folder, next) = *self.resources.get(&listing).map_err(|_| Errno::BadDescriptor)?;
        let Some((number, name, id)) = self.files.folder(folder)?.entries(next).next() else { return Ok(None) };
        let name = String::from_utf8(name.to_vec()).map_err(|_| Errno::IllegalBytes)?;
        let entry = DirectoryEntry { type_: type_of(&self.files, id), name };
        self.resources.get_mut(&listing)?.1 = number + 1;
        Ok(Some(entry))
    }

    fn drop(&mut self, listing: Resource<Listing>) -> wasmtime::Result<()> {
        let Listing(folder, _) = self.resources.delete(listing)?;
        self.files.close(folder);
        Ok(())
    }
}

impl types::HostDescriptor for Context {
    fn read_via_stream(&mut self, of: Resource<Descriptor>, offset: u64) -> Answer<Resource<InputStream>> {
        let id = self.file_of(&of, DescriptorFlags::READ)?;
        let stream = self.resources.push(InputStream::File(id, offset))?;
        self.files.open(id);
        Ok(stream)
    }

    fn write_via_stream(&mut self, of: Resource<Descriptor>, offset: u64) -> Answer<Resource<OutputStream>> {
        let id = self.file_of(&of, DescriptorFlags::WRITE)?;
        self.streamed(OutputStream::File(id, offset), id)
    }

    fn append_via_stream(&mut self, of: Resource<Descriptor>) -> Answer<Resource<OutputStream>> {
        let id = self.file_of(&of, DescriptorFlags::WRITE)?;
        self.streamed(OutputStream::Append(id), id)
    }

    fn advise(&mut self, of: Resource<Descriptor>, _: u64, _: u64, _: Advice) -> Answer<()> {
        self.file_of(&of, DescriptorFlags::empty()).map(drop)
    }

    fn sync_data(&mut self, of: Resource<Descriptor>) -> Answer<()> {
        self.descriptor(&of).map(drop)
    }

    fn get_flags(&mut self, of: Resource<Descriptor>) -> Answer<DescriptorFlags> {
        Ok(self.descriptor(&of)?.flags)
    }

    fn get_type(&mut self, of: Resource<Descriptor>) -> Answer<DescriptorType> {
        Ok(type_of(&self.files, self.descriptor(&of)?.id))
    }

    fn set_size(&mut self, of: Resource<Descriptor>, size: u64) -> Answer<()> {
        let id = self.file_of(&of, DescriptorFlags::WRITE)?;
        let (data, budget) = self.files.file_mut(id)?;
        data.set_len(size, budget)
    }

    fn set_times(&mut self, of: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp) -> Answer<()> {
        let (accessed, modified) = (self.time(accessed), self.time(modified));
        self.files.set_times(self.descriptor(&of)?.id, accessed, modified)
    }

    fn read(&mut self, of: Resource<Descriptor>, len: u64, from: u64) -> Answer<(Vec<u8>, bool)> {
        let bytes = self.files.file(self.file_of(&of, DescriptorFlags::READ)?)?.bytes();
        let rest = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
        let some = rest.len().min(len.min(MOST) as usize);
        Ok((rest[..some].to_vec(), some == rest.len()))
    }

    fn write(&mut self, of: Resource<Descriptor>, bytes: Vec<u8>, at: u64) -> Answer<u64> {
        let id = self.file_of(&of, DescriptorFlags::WRITE)?;
        let (data, budget) = self.files.file_mut(id)?;
        if !bytes.is_empty() {
            data.range_mut(at, bytes.len(), budget)?.copy_from_slice(&bytes);
        }
        Ok(bytes.len() as u64)
    }

    fn read_directory(&mut self, of: Resource<Descriptor>) -> Answer<Resource<Listing>> {
        let id = self.descriptor(&of)?.id;
        self.files.folder(id)?;
        let listing = self.resources.push(Listing(id, 0))?;
        self.files.open(id);
        Ok(listing)
    }

    fn sync(&mut self, of: Resource<Descriptor>) -> Answer<()> {
        self.descriptor(&of).map(drop)
    }

    fn create_directory_at(&mut self, of: Resource<Descriptor>, path: String) -> Answer<()> {
        let found = self.find_at(&of, PathFlags::empty(), &path)?;
        if found.node.is_some() {
            return Err(Errno::Exists.into());
        }
        self.files.now = self.wall_clock();
        let (parent, name) = found.entry()?;
        self.files.create(parent, name, Files::new_folder()).map(drop)
    }

    fn stat(&mut self, of: Resource<Descriptor>) -> Answer<DescriptorStat> {
        Ok(stat_of(&self.files, self.descriptor(&of)?.id))
    }

    fn stat_at(&mut self, of: Resource<Descriptor>, flags: PathFlags, path: String) -> Answer<DescriptorStat> {
        Ok(stat_of(&self.files, self.find_at(&of, flags, &path)?.existing()?))
    }

    fn set_times_at(
        &mut self,
        of: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Answer<()> {
        let (accessed, modified) = (self.time(accessed), self.time(modified));
        let id = self.find_at(&of, flags, &path)?.existing()?;
        self.files.set_times(id, accessed, modified)
    }

    fn link_at(
        &mut self,
        of: Resource<Descriptor>,
        flags: PathFlags,
        old: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> Answer<()> {
        let id = self.find_at(&of, flags, &old)?.existing()?;
        let found = self.find_at(&to, PathFlags::empty(), &new)?;
        let (parent, name) = found.entry()?;
        self.files.link(id, parent, name)
    }

    fn open_at(
        &mut self,
        of: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> Answer<Resource<Descriptor>> {
        let exclusive = how.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE);
        let path_flags = if exclusive { PathFlags::empty() } else { path_flags };
        let found = self.find_at(&of, path_flags, &path)?;
        let writes = flags.contains(DescriptorFlags::WRITE) || how.contains(OpenFlags::TRUNCATE);
        let id = match found.node {
            Some(_) if exclusive => return Err(Errno::Exists.into()),
            Some(id) => {
                match self.files.content(id) {
                    Content::Link(_) => return Err(Errno::Loop.into()),
                    Content::File(_) if how.contains(OpenFlags::DIRECTORY) => return Err(Errno::NotFolder.into()),
                    Content::File(_) if writes && self.files.is_read_only(id) => return Err(Errno::ReadOnly.into()),
                    Content::Folder(_) if writes => return Err(Errno::IsFolder.into()),
                    _ => {}
                }
                if how.contains(OpenFlags::TRUNCATE) {
                    let (data, budget) = self.files.file_mut(id)?;
                    data.set_len(0, budget)?;
                }
                id
            }
            None if !how.contains(OpenFlags::CREATE) => return Err(Errno::NoEntry.into()),
            None if found.folder_meant || how.contains(OpenFlags::DIRECTORY) => return Err(Errno::Invalid.into()),
            None => {
                self.files.now = self.wall_clock();
                let (parent, name) = found.entry()?;
                self.files.create(parent, name, Content::File(Data::default()))?
            }
        };
        self.opened(id, flags)
    }

    fn readlink_at(&mut self, of: Resource<Descriptor>, path: String) -> Answer<String> {
        let id = self.find_at(&of, PathFlags::empty(), &path)?.existing()?;
        let Content::Link(target) = self.files.content(id) else { return Err(Errno::Invalid.into()) };
        Ok(String::from_utf8(target.to_vec()).map_err(|_| Errno::IllegalBytes)?)
    }

    fn remove_directory_at(&mut self, of: Resource<Descriptor>, path: String) -> Answer<()> {
        let found = self.find_at(&of, PathFlags::empty(), &path)?;
        found.existing()?;
        let (parent, name) = found.entry()?;
        self.files.remove(parent, name, true)
    }

    fn rename_at(
        &mut self,
        of: Resource<Descriptor>,
        old: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> Answer<()> {
        let old = self.find_at(&of, PathFlags::empty(), &old)?;
        let id = old.existing()?;
        let new = self.find_at(&to, PathFlags::empty(), &new)?;
        if new.folder_meant && !self.files.is_folder(id) {
            return Err(Errno::NotFolder.into());
        }
        self.files.rename(old.entry()?, new.entry()?)
    }

    fn symlink_at(&mut self, of: Resource<Descriptor>, target: String, path: String) -> Answer<()> {
        let found = self.find_at(&of, PathFlags::empty(), &path)?;
        match target.as_bytes() {
            [] => return Err(Errno::NoEntry.into()),
            [b'/', ..] => return Err(Errno::NotPermitted.into()),
            target if target.len() > 4096 => return Err(Errno::NameTooLong.into()),
            _ if found.node.is_some() => return Err(Errno::Exists.into()),
            _ => {}
        }
        let (parent, name) = found.entry()?;
        self.files.create(parent, name, Content::Link(target.as_bytes().into())).map(drop)
    }

    fn unlink_file_at(&mut self, of: Resource<Descriptor>, path: String) -> Answer<()> {
        let found = self.find_at(&of, PathFlags::empty(), &path)?;
        found.existing()?;
        let (parent, name) = found.entry().map_err(|_| Errno::IsFolder)?;
        self.files.remove(parent, name, false)
    }

    fn is_same_object(&mut self, of: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool> {
        Ok(self.resources.get(&of)?.id == self.resources.get(&other)?.id)
    }

    fn metadata_hash(&mut self, of: Resource<Descriptor>) -> Answer<MetadataHashValue> {
        Ok(hash_of(&self.files, self.descriptor(&of)?.id))
    }

    fn metadata_hash_at(
        &mut self,
        of: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> Answer<MetadataHashValue> {
        Ok(hash_of(&self.files, self.find_at(&of, flags, &path)?.existing()?))
    }

    fn drop(&mut self, of: Resource<Descriptor>) -> wasmtime::Result<()> {
        let descriptor = self.resources.delete(of)?;
        self.files.close(descriptor.id);
        Ok(())
    }
}
